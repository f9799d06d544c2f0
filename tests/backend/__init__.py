"""Tests of the backends, and the stand-in for CuPy."""
