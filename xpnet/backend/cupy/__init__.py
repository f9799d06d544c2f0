"""The room of CuPy. Its files but backend.py are imported when CuPy is used, as CuPy itself is."""
