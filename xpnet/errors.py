"""Every error that xpnet raises on purpose: a user can cause and correct it, and its message is one printable line."""

__all__ = [
    "ConfigError",
    "DataError",
    "DeviceError",
    "InUseError",
    "MissingPackageError",
    "ModelError",
    "NonFiniteError",
    "TeamError",
    "XpnetError",
    "one_line",
]


def one_line(text: str) -> str:
    """A text that a terminal can show, whatever it quotes from a file: at most 1,600 characters, all printable."""
    for _ in range(2):  # an escaped character is longer
        text = text if len(text) <= 1600 else f"{text[:1000]} ... {text[-500:]}"
        text = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text


class XpnetError(Exception):
    """Base of the errors that xpnet raises on purpose; `except xpnet.XpnetError` catches them all.

    message : the fault, its place and its remedy; reduced to one printable line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class ConfigError(XpnetError, ValueError):
    """A setting that is unknown, out of range, or at odds with another one or with the data.

    setting : the name of the setting with which the message begins, as in "hidden[0] must be ..."; "" if with none.
    """

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


class DataError(XpnetError, ValueError):
    """Data that cannot be found, fetched, read or trusted."""


class DeviceError(XpnetError, RuntimeError):
    """A library or device that cannot be used.

    what : the reason alone, a short clause.   remedy : a short instruction, or "" if nothing helps.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what, self.remedy = one_line(what), one_line(remedy)


class InUseError(XpnetError, RuntimeError):
    """A place that another process has locked; the message describes the process."""


class MissingPackageError(XpnetError, ImportError):
    """A package that only some uses need and that is not installed; the message names the extra that installs it."""


class ModelError(XpnetError, ValueError):
    """A model file or run directory that cannot be read, or a model that does not fit the data."""


class NonFiniteError(XpnetError, ArithmeticError):
    """A training run whose loss or parameters stopped being finite."""


class TeamError(XpnetError, RuntimeError):
    """Processes that cannot train together: their launcher, their number, their settings or their machines differ."""
