"""CuPy's room. All of its files except backend.py are imported when CuPy is used, like CuPy itself."""
