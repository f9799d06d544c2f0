"""The errors a user can cause and mend, each one line.

The data room has DataError and the backend room DeviceError, since those rooms import nothing of xpnet.
"""

__all__ = ["ConfigError", "MissingPackageError", "ModelError", "NonFiniteError"]


class ConfigError(ValueError):
    """A setting that is unknown, out of range, or at odds with another one or with the data."""


class MissingPackageError(ImportError):
    """A package that only some uses need and that is not installed; the message names the extra that brings it."""


class ModelError(ValueError):
    """A model file or run directory that cannot be read, or a model that does not fit the data."""


class NonFiniteError(ArithmeticError):
    """A training run whose loss or parameters stopped being finite."""
