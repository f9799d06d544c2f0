"""The command line: parsing and printing, no numerics.

Each command has its own file, which is imported when the command is called, so that `xpnet --help` costs little more
than the parser. An error that a user can cause ends in one line on stderr and an exit code: 1 failed, 2 wrong use,
130 interrupted, 143 terminated.
"""

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cyclopts import App, CycloptsError, UnusedCliTokensError

import xpnet
from xpnet.checks import nearest
from xpnet.cli.terminal import fill, prepare_streams
from xpnet.errors import ConfigError, XpnetError
from xpnet.platforms import discard

__all__ = ["main", "outcome_of"]

COMMANDS = {
    "train": "Train a network and save it in a run directory.",
    "evaluate": "Measure a trained model: accuracy, precision, recall, F1, calibration, confusions.",
    "predict": "Classify single images from a data set or from picture files.",
    "explain": "Show what speaks for a prediction and against it, and what is similar.",
    "plot": "Draw training curves, the confusion matrix, mistakes and first-layer weights.",
    "animate": "Film a run: its weights, hidden layer and decision boundary while it learns.",
    "summary": "Show a model's layers, parameters and arithmetic.",
    "runs": "List the runs, with their scores, and mark the best.",
    "compare": "Compare runs: settings, scores, and the examples that only one gets right.",
    "export": "Write a model as a file for other programs, such as .onnx.",
    "draw": "Draw a digit in the browser, and watch a trained model answer.",
    "import": "Make a model from a file of another program, or of xpnet export.",
    "recipes": "List the recipes, or print one.",
    "reproduce": "Train published networks again and compare their errors.",
    "lr-find": "Find a good learning rate.",
    "tune": "Search for good settings.",
    "gradcheck": "Check the gradients against finite differences, and the libraries against each other.",
    "data": "List, download and view data sets.",
    "info": "Show versions, devices and the folders searched for data.",
}


_EPILOGUE = """\
Every command takes --help; --debug shows the traceback of an error.
xpnet --install-completion has the shell complete commands and flags."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    argv : the arguments after the program's name; None takes the process's own.
    Returns the exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted, 143 terminated.
    """
    prepare_streams()
    tokens = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in tokens
    everything = "--help-all" in tokens
    command = next(iter(tokens), "")
    tokens = ["--help" if word == "--help-all" else word for word in tokens if word != "--debug"]
    try:
        with _messages_on_stderr():
            status = _app(tokens, everything)(
                tokens, exit_on_error=False, print_error=False, result_action="return_value"
            )
        sys.stdout.flush()
    except KeyboardInterrupt:
        if _in_team(command):
            raise  # to where the others are ended, too
        print("xpnet: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not fail once more when it flushes at exit.
        discard(sys.stdout.fileno())
        return 1
    except Exception as error:
        explained = outcome_of(error, [word.partition("=")[0] for word in tokens])
        if explained is None:
            raise
        if debug:
            import traceback

            traceback.print_exc()
        status, message = explained
        if isinstance(error, CycloptsError) and _in_team(command):
            from xpnet.distributed import abandon

            abandon(message, status, title="xpnet: error: ")  # the others may have no such error, and wait
        print(fill(f"xpnet: error: {message}"), file=sys.stderr)
    return status if isinstance(status, int) else 0


def _app(tokens: Sequence[str], everything: bool) -> App:
    command = next(iter(tokens), "")
    helps: dict[str, Any] = {}
    if {"--help", "-h"}.intersection(tokens) or not tokens:
        from xpnet.cli.help import EXAMPLES, TAKE_SETTINGS, Help

        command = command if command in COMMANDS else ""
        both = " ".join(tokens[:2])
        helps["help_formatter"] = Help(both if both in EXAMPLES else command, everything=everything)
        if command in TAKE_SETTINGS and not everything:
            helps["help_epilogue"] = f"xpnet {command} --help-all shows all settings."
    app = App(
        name="xpnet",
        help="A neural network and its backpropagation, written once, on NumPy, CuPy, PyTorch and JAX.",
        help_format="plaintext",
        version=f"xpnet {xpnet.__version__}",
        version_flags=["--version", "-V"],
        suppress_keyboard_interrupt=False,
        **{"help_epilogue": _EPILOGUE, **helps},
    )
    app.register_install_completion_command(
        help="Complete commands and flags by Tab in bash, zsh or fish.", sort_key=999
    )
    for order, (name, summary) in enumerate(COMMANDS.items()):
        module = name.replace("-", "_") + "_" * (name == "import")  # which is Python's own word
        target = "app" if name == "data" else module
        # The command that is called describes itself at length, in its docstring.
        help = None if name in tokens[:1] else summary
        app.command(f"xpnet.cli.{module}:{target}", name=name, help=help, sort_key=order)
    return app


def outcome_of(error: Exception, typed: Sequence[str] = ()) -> tuple[int, str] | None:
    """Exit code and message for an error that a user can cause; None for any other, which is a fault of xpnet.

    typed : the flags of the command line, where they are known.
    """
    if isinstance(error, ConfigError):
        return 2, _as_typed(error, typed)
    if isinstance(error, XpnetError):
        return 1, str(error)
    message = " ".join(str(error).split())
    if isinstance(error, CycloptsError):
        return 2, _misused(error, message)
    if isinstance(error, MemoryError):
        return 1, f"out of memory ({message})" if message else "out of memory"
    if isinstance(error, OSError):
        reason = error.strerror or message
        return 1, f"{error.filename}: {reason}" if error.filename else reason
    return None


def _misused(error: CycloptsError, message: str) -> str:
    """What the parser says of a command line that it can't take, in the words of this program."""
    if isinstance(error, UnusedCliTokensError):
        message = f"unexpected argument {' '.join(error.unused_tokens or [])!r}"
    message = message.partition(" Available commands")[0].rstrip(".")  # --help lists them, and all of them
    if found := re.match(r'Unknown command "(.*?)"', message):
        return f"unknown command {found[1]!r}; {nearest(found[1], COMMANDS)}xpnet --help lists them"
    if found := re.match(r"Unknown option: --([\w-]+)", message):
        from xpnet.cli.help import TAKE_SETTINGS
        from xpnet.cli.settings import flag_name
        from xpnet.training.config import SETTINGS
        from xpnet.training.setting import SYNONYMS

        known = SYNONYMS.get(found[1].replace("-", "_"))
        if known and TAKE_SETTINGS.intersection(error.command_chain or ()):
            # Of progress, which fit alone takes, the parser would guess something else.
            hint = f". Did you mean {flag_name(known)}?" if known in SETTINGS else "; see --help"
            return f"{found[0]}{hint}"
    return message if "Did you mean" in message else f"{message}; see --help"


def _as_typed(error: ConfigError, typed: Sequence[str]) -> str:
    """A ConfigError's message with the setting that it begins with written as its flag, if it has one.

    Before the setting may stand the process that raised it, of several.
    """
    message = str(error)
    if not error.setting:
        return message
    # This room imports NumPy, which is too much for --help.
    from xpnet.cli.settings import flag_name
    from xpnet.training.config import SETTINGS

    found = re.match(rf"(process \d+ on \S+: )?{re.escape(error.setting)}(?:\[\d+\]|\.(\w+))?", message)
    flag = flag_name(error.setting)
    if found is None or (error.setting not in SETTINGS and flag not in typed):
        return message
    place, part = found.groups(default="")
    return f"{place}{flag}{' ' * bool(part)}{part}{message[found.end() :]}"


def _in_team(command: str) -> bool:
    """Whether this process is one of several that run a command together, as they may where it is misspelt."""
    from xpnet.distributed import launched

    return (command in ("train", "info") or command not in COMMANDS) and launched()[1] > 1


class _StderrLines(logging.Handler):
    """Plain lines on whatever stderr is at the time, which rich exchanges while it shows a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(fill(f"{mark}{record.getMessage()}"), file=sys.stderr, flush=True)


@contextmanager
def _messages_on_stderr() -> Iterator[None]:
    logger, handler = logging.getLogger("xpnet"), _StderrLines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
