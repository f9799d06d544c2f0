"""The version, alone, so that whoever needs it imports nothing else."""

__version__ = "0.2.0"
