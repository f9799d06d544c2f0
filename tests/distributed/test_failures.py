"""Errors that travel: the same type and message elsewhere, with the place where they were raised."""

import pickle
from collections.abc import Callable

import pytest

from xpnet import errors
from xpnet.cli import outcome_of
from xpnet.distributed.failures import Failure
from xpnet.errors import ConfigError, DataError, DeviceError

PLACE = "process 1 on node7"
UNREADABLE = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")


class TwoArgumentsError(ValueError):
    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} {where}")


class UnpicklableError(DataError):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.held = lambda: None


def travelled(error: BaseException, where: str = PLACE) -> BaseException:
    """An error as another process has it."""
    failure: Failure = pickle.loads(pickle.dumps(Failure.of(error, where)))
    return failure.error()


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_every_error_of_xpnet_arrives_with_its_place(name: str) -> None:
    kind = getattr(errors, name)
    error = travelled(kind("lr must be small"))
    assert (type(error), str(error)) == (kind, f"{PLACE}: lr must be small")
    assert str(travelled(kind("lr must be small"), "")) == "lr must be small"


def test_what_an_error_knows_besides_its_message_arrives() -> None:
    config = travelled(ConfigError("lr must be small", setting="lr"))
    assert isinstance(config, ConfigError)
    assert config.setting == "lr"
    assert outcome_of(config) == (2, f"{PLACE}: --lr must be small")
    device = travelled(DeviceError("no GPU", "buy one"))
    assert isinstance(device, DeviceError)
    assert (device.what, device.remedy) == ("no GPU", "buy one")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError(), ValueError, f"{PLACE}: "),
        (KeyError("a"), KeyError, f"\"{PLACE}: 'a'\""),
        (FileNotFoundError(2, "No such file", "/data/x"), FileNotFoundError, f"{PLACE}: /data/x: No such file"),
        (UNREADABLE, UnicodeError, f"{PLACE}: UnicodeDecodeError: {UNREADABLE}"),
        (TwoArgumentsError("a", "b"), ValueError, f"{PLACE}: TwoArgumentsError: a b"),
        (UnpicklableError("a"), DataError, f"{PLACE}: UnpicklableError: a"),
        (ExceptionGroup("two", [ValueError("a")]), Exception, f"{PLACE}: ExceptionGroup: two (1 sub-exception)"),
        (SystemExit("stopped"), SystemExit, "stopped"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
)
def test_any_error_arrives_as_the_nearest_that_can(
    error: BaseException, kind: type[BaseException], message: str
) -> None:
    twin = travelled(error)
    assert (type(twin), str(twin)) == (kind, message)


def test_an_exit_code_arrives() -> None:
    error = travelled(SystemExit(3))
    assert isinstance(error, SystemExit)
    assert error.code == 3


def test_an_error_of_a_type_that_the_other_process_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = Failure.of(UnpicklableError("a"), PLACE)
    lost = Failure.of(DataError("a"), PLACE)
    monkeypatch.delattr(errors, "DataError")
    assert type(failure.error()) is type(lost.error()) is errors.XpnetError
    assert str(lost.error()) == f"{PLACE}: DataError: a"


def test_the_traceback_comes_as_a_note() -> None:
    def fault() -> None:
        raise ValueError("a")

    def run(what: Callable[[], None]) -> BaseException:
        try:
            what()
        except ValueError as error:
            return travelled(error)
        raise AssertionError

    assert "in fault" in run(fault).__notes__[0]
