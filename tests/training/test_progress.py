"""What a run shows while it trains."""

import io
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backend import Backend
from xpnet.display import duration, plain
from xpnet.training import epochs, progress
from xpnet.training.history import Epoch
from xpnet.training.prepare import fingerprint
from xpnet.training.progress import Progress
from xpnet.training.run import Run


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Slow(xpnet.Callback):
    """Takes its time before an epoch and within it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_start(self, run: Run) -> None:
        time.sleep(2 * self.seconds)

    def on_steps(self, run: Run) -> None:
        time.sleep(self.seconds)


def fit(data: xpnet.Dataset, file: io.StringIO, *further: xpnet.Callback, **settings: Any) -> xpnet.Result:
    settings = {"epochs": 3, "test_each_epoch": True, **settings}
    return xpnet.fit(xpnet.MLP((36, 5, 3)), data, callbacks=[Progress(file), *further], device="cpu", **settings)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (7.6, "8 s"),
        (59.6, "1 min"),
        (65, "1 min 5 s"),
        (3600, "1 h"),
        (7_420, "2 h 3 min"),
        (97_200, "1 d 3 h"),
    ],
)
def test_a_length_of_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0.0123456, "0.012346"),
        (-1.5, "-1.5"),
        (9999.99, "10000"),
        (12_345.6, "12346"),
        (-4_911_085.2, "-4911085"),
        (1.25e9, "1.25e+09"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_as_people_write_them(number: float, words: str) -> None:
    assert plain(number) == words


def test_plain_lines_off_a_terminal(small_data: xpnet.Dataset) -> None:
    text = io.StringIO()
    fit(small_data, text, validation=0.1)
    lines = text.getvalue().splitlines()
    heads = ["epoch", "train loss", "train acc", "val loss", "val acc", "test loss", "test acc", "time"]
    assert re.split(r" {2,}", lines[0].strip()) == heads
    assert [line.split()[0] for line in lines] == ["epoch", "1/3", "2/3", "3/3"]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert "\x1b" not in text.getvalue()


def test_every_number_stands_under_its_head(small_data: xpnet.Dataset) -> None:
    text = io.StringIO()
    result = fit(small_data, text, epochs=1, validation=0.1)
    head, line = text.getvalue().splitlines()
    epoch = result.history[0]
    for name, number in (
        ("train loss", epoch.train_loss),
        ("val loss", epoch.validation_loss),
        ("test loss", epoch.test_loss),
    ):
        end = head.index(name) + len(name)
        assert line[:end].split()[-1] == f"{number:.4f}"


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_no_line_is_longer_than_the_terminal(
    columns: int, small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    text = Terminal()
    monkeypatch.setattr(epochs, "READ_EVERY", 0.0)
    fit(small_data, text, Slow(0.02), validation=0.1, batch_size=1)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue())
    lines = re.split(r"[\r\n]+", shown)
    assert max(map(len, lines)) <= columns
    assert sum(line.split()[:1] == ["1/3"] for line in lines) == 1
    head = next(line for line in lines if line.startswith("epoch  "))
    assert "test acc" in head  # what matters is given up last
    assert ("train loss" in head) == (columns > 80)


def test_within_an_epoch_it_says_how_far_how_well_how_fast_and_how_long(
    small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(epochs, "READ_EVERY", 0.0)
    text = io.StringIO()
    result = fit(small_data, text, Slow(0.15), epochs=2, batch_size=1)
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("epoch 1/2: preparing, 0 s")
    pattern = r"epoch 1/2: \d+ %, loss [\d.]+, acc [\d.]+ %, [\d,]+ images/s, \d+ s left, run \d+ s left"
    assert any(re.fullmatch(pattern, line) for line in lines), lines
    assert any(re.fullmatch(pattern.partition(", run")[0].replace("1/2", "2/2"), line) for line in lines), lines
    assert len(result.history) == 2


def test_compiling_is_said_while_it_lasts_and_of_the_epoch_whose_time_contains_it(
    small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spent = [0.25]

    class Compile(xpnet.Callback):
        def on_steps(self, run: Run) -> None:
            spent[0] = 2.0 if run.epoch == 1 else 2.25

    monkeypatch.setattr(Backend, "compiling_seconds", property(lambda _: spent[0]))
    monkeypatch.setattr(progress, "EVERY", 0.0)
    text = io.StringIO()
    with caplog.at_level("INFO", logger="xpnet"):
        fit(small_data, text, Slow(0.2), Compile(), epochs=2)
    assert text.getvalue().startswith("epoch 1/2: compiling, 0 s\n")
    assert [record.getMessage() for record in caplog.records] == ["compiling took 1.8 s of epoch 1"]


def test_figures_so_far_are_those_of_the_steps_so_far(
    small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last reading lies next to the epoch's own figures, and both are means."""
    monkeypatch.setattr(epochs, "READ_EVERY", 0.0)
    seen: list[tuple[int, float, float]] = []

    class Watch(xpnet.Callback):
        def on_steps(self, run: Run) -> None:
            if run.so_far is not None and run.done < run.n_steps:
                seen.append((run.done * run.batch_size, *run.so_far[:2]))

    result = fit(small_data, io.StringIO(), Watch(), epochs=1, batch_size=1)
    n, loss, accuracy = seen[-1]
    examples = len(small_data.train)
    assert 0 < n <= examples
    epoch = result.history[0]
    # What the remaining examples add is bounded: each can be right or wrong.
    assert abs(accuracy * n - epoch.train_accuracy * examples) <= examples - n
    assert loss * n <= epoch.train_loss * examples + 1e-3
    assert loss == pytest.approx(epoch.train_loss, rel=0.5)


@pytest.mark.parametrize(("milliseconds", "readings"), [(10, [60, 120, 180, 240, 300]), (1, [60, 300]), (0, [60])])
def test_a_device_that_takes_steps_before_it_does_them_is_waited_for(
    milliseconds: int, readings: list[int], small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock advances only where the device is waited for, as with JAX, by the milliseconds of each step."""
    now, waited = [0.0], [0]

    def read(run: Run, *_: Any) -> None:
        now[0] += (run.done - waited[-1]) * milliseconds / 1000
        waited.append(run.done)

    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    monkeypatch.setattr(epochs, "time", clock)
    monkeypatch.setattr(epochs, "_so_far", read)
    fit(small_data, io.StringIO(), epochs=1, batch_size=1)
    assert waited[1:] == readings


def test_a_regression_s_figure_so_far_is_r2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(epochs, "READ_EVERY", 0.0)
    X = np.random.default_rng(0).normal(size=(200, 3))
    text = io.StringIO()
    observers = [Progress(text), Slow(0.1)]
    xpnet.fit(
        xpnet.MLP((3, 4, 1), loss="squared-error"),
        (X, X[:, 0]),
        epochs=1,
        batch_size=1,
        callbacks=observers,
        device="cpu",
    )
    assert re.search(r"epoch 1/1: \d+ %, loss [\d.]+, R2 -?[\d.]+", text.getvalue())
    assert "rows/s" in text.getvalue()


def test_reading_the_figures_changes_no_bit(small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = fit(small_data, io.StringIO(), batch_size=1).model.params
    monkeypatch.setattr(epochs, "READ_EVERY", 0.0)
    often = fit(small_data, io.StringIO(), batch_size=1).model.params
    assert all(np.array_equal(a, b) for a, b in zip(usual, often, strict=True))


def test_large_numbers_keep_the_columns() -> None:
    figures = {"train_loss": 1.5e12, "train_r2": -1.5e9, "learning_rate": 1.0, "samples_per_second": 1.0}
    head, line = progress._row(Epoch(epoch=7, seconds=7_420.0, **figures), 100, 80)
    assert len(head) == len(line)
    assert line.split() == ["7/100", "1.5e+12", "-1.5e+09", "2", "h", "3", "min"]


def test_it_shows_before_a_directory_waits_for_the_data_to_be_hashed(
    small_data: xpnet.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> str:
        time.sleep(0.4)
        return fingerprint(small_data)

    fit(small_data, io.StringIO(), out=tmp_path / "run", epochs=1)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr("xpnet.training.fit.fingerprint", slow)
    text = io.StringIO()
    fit(small_data, text, out=tmp_path / "run", resume=True, epochs=2)
    assert text.getvalue().startswith("epoch 1/2: preparing, 0 s\n")
