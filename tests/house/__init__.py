"""Tests of the house itself: its walls, its packaging, its notebook, its errors."""
