"""bench page: what it measures, and the goals that it holds the numbers against."""

import re

import numpy as np
import pytest

import xpnet
from bench import page as bench

SAYS = r"""page: [\d,]+ bytes
12 test images of patterns.npz, redrawn: forms equal 12, classes equal 12
largest difference of an output \d\.\de-\d+; read right \d+\.\d %
an answer with its pictures: median \d+\.\d ms, 95 % \d+\.\d ms
(NOT REACHED|reached)
"""


def test_what_it_measures(patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright.sync_api", reason="needs playwright, of the dependency group browser")
    for latency, reached in ((1e9, 0), (0.0, 1)):
        monkeypatch.setattr(bench, "LATENCY", latency)
        try:
            assert bench.main(["--data", patterns, "--images", "12"]) == reached
        except xpnet.MissingPackageError as error:
            pytest.skip(str(error))
        said = re.fullmatch(SAYS, capsys.readouterr().out)
        assert said
        assert said[1] == ("NOT REACHED" if reached else "reached")


def test_lines_are_thinned_to_one_pixel() -> None:
    images = np.zeros((2, 20, 20), bool)
    images[0, 5:9, 2:18] = True
    images[1, 3:17, 8:11] = True
    across, down = bench.thinned(images)
    assert across.sum(axis=0).max() == 1
    assert down.sum(axis=1).max() == 1
    assert across.any(axis=0).sum() >= 11
    assert down.any(axis=1).sum() >= 11


def test_ink_lies_within_the_pen_s_radius() -> None:
    mask = bench.inked([[(50.0, 60.0), (150.0, 60.0)], [(-200.0, 500.0)]])
    y, x = np.nonzero(mask)
    assert (y.min(), y.max(), x.min(), x.max()) == (50, 69, 40, 159)
    assert abs(mask.sum() - (100 * 20 + np.pi * 100)) < 10
