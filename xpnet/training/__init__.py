"""One run: its settings, its first parameters, its steps and epochs, and all that is kept of it."""
