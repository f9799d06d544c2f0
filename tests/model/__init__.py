"""Tests of models and their files."""
