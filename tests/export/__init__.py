"""Tests of where models go, and come from."""
