"""Hostile files: what each reader is fuzzed with, the fuzzer (python -m tests.fuzz), and what it found."""
