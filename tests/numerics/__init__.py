"""Tests of the numerics, over every array library."""
