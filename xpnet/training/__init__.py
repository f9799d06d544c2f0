"""One run: its settings, its initial parameters, its steps and epochs, and everything that is kept of it."""
