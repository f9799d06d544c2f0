"""bench scaling: its tables, and that it tells when the parameters of two teams differ."""

import json
import re
from pathlib import Path

import pytest

from bench import scaling
from tests.distributed.launching import needs_mpi

STEPS = r"""784-8-10@16 +2 +1 +[\d,]+ +0 +1\.00 +100 %  (\w{10})
784-8-10@16 +2 +2 +[\d,]+ +[\d,]+ +\d+\.\d\d +\d+ %  (\w{10})
"""


@needs_mpi
def test_what_it_measures(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "BLOCK", 0.002)
    monkeypatch.setattr(scaling, "SUMS", (1000, 10_000))
    results = tmp_path / "scaling.json"
    arguments = ["--rows", "784-8-10@16", "--shards", "2", "--rounds", "2", "--json", str(results)]
    assert scaling.main(arguments) == 0
    out = capfd.readouterr().out
    found = re.search(STEPS, out)
    assert found, out
    assert found[1] == found[2]
    assert re.search(r"10,000 floats: MPI_Allreduce \d+\.\d{3} \(1\.00\), .*recursive halving", out)
    assert re.search(r"b\* = 8 R / \(6 W\) = \d+ rows", out)
    assert len(json.loads(results.read_text())["steps"]) == 2


def test_it_tells_when_the_parameters_differ(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"row": "784-8-10@16", "shards": 2, "processes": 1, "step": 10.0, "sum": 0.0, "digest": "a"}
    assert scaling._print_steps([row, {**row, "processes": 2}]) == 0
    assert scaling._print_steps([row, {**row, "processes": 2, "digest": "b"}]) == 1
    assert "DIFFERENT" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--processes", "3"], ["--processes", "4", "--shards", "2"], ["--rows", "9-9"]])
def test_what_it_refuses(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        scaling.main(arguments)
