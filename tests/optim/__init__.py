"""Tests of the optimizers and schedules."""
