"""xpnet reproduce: runs that go on where they were stopped, committees, the table, the recipes."""

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import xpnet
from tests.conftest import open_backend
from xpnet.cli import main
from xpnet.cli.reproduce import COLUMNS, LESS, _markdown
from xpnet.cli.terminal import print_table
from xpnet.recipes import read_recipe, recipe_names
from xpnet.studies.records import Record, read_records, tabulate, write_records
from xpnet.studies.reproduce import milestones, plan, recipes_of, reproduce
from xpnet.training.run import Run

pytestmark = pytest.mark.usefixtures("every_epoch")  # some wait for a checkpoint of the newest

RECIPE = """
hidden = [6]
epochs = 3
batch_size = 50

[about]
what = "A small one."
source = "Somebody 1999."
reported = 90.5
"""
COMMITTEE = RECIPE.replace("epochs = 3", "epochs = 3\nlr = 0.05").replace("[about]", "[about]\nmembers = 3")


@pytest.fixture
def small(own_directory: None, small_data: xpnet.Dataset) -> Callable[..., list[Record]]:
    """reproduce(names, ...) on small_data, by the recipes "one", "same", which has one's settings, and "three"."""
    for name, text in {"one": RECIPE, "same": RECIPE, "three": COMMITTEE}.items():
        Path(f"{name}.toml").write_text(text)

    def run(*names: str, data: xpnet.Dataset = small_data, **options: Any) -> list[Record]:
        files = [f"{name}.toml" for name in names]
        return list(reproduce(recipes_of(files), data, xpnet.select("cpu"), Path("runs"), **options))

    return run


class Epochs(xpnet.Callback):
    """Counts the epochs that are trained, and fails in one of them."""

    def __init__(self, fail: int = 0) -> None:
        self.count, self.fail = 0, fail

    def on_epoch(self, run: Run) -> None:
        self.count += 1
        if self.count == self.fail:
            # An interrupt leaves out what the run has not begun to write.
            checkpoint = f"*-seed{run.config.seed}/checkpoints/step-{len(run.history) * run.n_steps:09d}"
            while not [*Path().rglob(checkpoint)]:
                time.sleep(0.01)
            raise KeyboardInterrupt


def test_only_classes_are_misclassified(small: Callable[..., list[Record]]) -> None:
    X = np.random.default_rng(0).random((30, 4))
    numbers = xpnet.Dataset.from_arrays(X, X[:, 0] + 0.01, test=(X, X[:, 0] + 0.01), name="numbers")
    with pytest.raises(xpnet.ConfigError, match="what they misclassify, but numbers is for regression"):
        small("one", data=numbers)


def test_a_run_is_trained_to_its_end_and_measured_on_the_test_images(
    small: Callable[..., list[Record]], small_data: xpnet.Dataset
) -> None:
    first, second = small("one", seeds=2)
    assert (first.recipe, first.source, first.published, first.seeds) == ("one", "Somebody 1999", 9.5, [0])
    assert (second.seeds, second.epochs, second.n_test, second.library) == ([1], 3, 60, "numpy")
    config = xpnet.TrainConfig(hidden=(6,), epochs=3, batch_size=50, seed=1, device="cpu")
    result = xpnet.fit(config.network(36, 3), small_data, config, progress=False)
    assert small_data.test is not None
    images, labels = small_data.test
    assert second.wrong == np.flatnonzero(result.model.predict(images) != labels).tolist()
    accuracy = result.history[-1].test_accuracy
    assert accuracy is not None
    assert second.error == pytest.approx(100 * (1 - accuracy))
    directory = Path("runs/one-seed1")
    assert {file.name for file in directory.iterdir()} - {"curves.png"} == {
        *("config.toml", "history.csv", "model.safetensors", "result.json")
    }
    assert np.array_equal(xpnet.load(directory, "cpu").predict(images), result.model.predict(images))


def test_training_never_sees_the_test_images(small: Callable[..., list[Record]]) -> None:
    class Look(xpnet.Callback):
        def on_epoch(self, run: Run) -> None:
            assert run.history[-1].test_loss is run.history[-1].test_accuracy is None

    assert len(small("one", callbacks=[Look()])) == 1


def test_what_is_finished_is_not_repeated_and_what_was_stopped_goes_on(small: Callable[..., list[Record]]) -> None:
    with pytest.raises(KeyboardInterrupt):
        small("one", callbacks=[Epochs(fail=2)])
    rest = Epochs()
    stopped = small("one", callbacks=[rest])
    assert rest.count == 1, "the third epoch alone"
    again = Epochs()
    assert small("one", callbacks=[again]) == stopped
    assert again.count == 0
    Path("runs").rename("first")
    whole = small("one")
    assert [dataclasses.replace(run, seconds=0.0) for run in (*whole, *stopped)] == 2 * [
        dataclasses.replace(whole[0], seconds=0.0)
    ]


def test_the_budget_ends_after_an_epoch_and_the_next_call_goes_on(small: Callable[..., list[Record]]) -> None:
    epochs, calls = Epochs(), 0
    found: list[Record] = []
    while not found:
        # Shorter than any epoch, longer than what comes before the first: an epoch for each call.
        found = small("one", minutes=1e-9 if calls == 0 else 1e-4, callbacks=[epochs])
        calls += 1
        assert calls < 1000
    assert epochs.count == 3, "none of them twice"
    assert [record.epochs for record in found] == [3]


def test_a_run_is_known_by_the_settings_that_are_not_as_ever(small: Callable[..., list[Record]]) -> None:
    Path("bent.toml").write_text(RECIPE.replace("[about]", "[augment]\nalpha = 3.0\nsigma = 4.0\n\n[about]"))
    (bent,) = small("bent")
    assert bent.settings == {"hidden": [6], "epochs": 3, "batch_size": 50, "augment": {"alpha": 3.0}} | {
        "data": bent.settings["data"]
    }


def test_recipes_of_the_same_settings_share_their_runs(small: Callable[..., list[Record]]) -> None:
    epochs = Epochs()
    one, same = small("one", "same", callbacks=[epochs])
    assert epochs.count == 3
    assert (one.recipe, same.recipe) == ("one", "same")
    assert one.wrong == same.wrong


def test_a_committee_averages_the_outputs_of_its_networks(
    small: Callable[..., list[Record]], small_data: xpnet.Dataset
) -> None:
    *members, committee = small("three")
    assert [member.seeds for member in members] == [[0], [1], [2]]
    assert committee.seeds == [0, 1, 2]
    assert committee.network == "3 x 36-6-3 relu"
    assert committee.seconds == pytest.approx(sum(member.seconds for member in members))
    assert small_data.test is not None
    images, labels = small_data.test
    models = [xpnet.load(path, "cpu") for path in sorted(Path("runs").iterdir())]
    outputs = np.mean([model.outputs(images) for model in models], axis=0)
    assert committee.wrong == np.flatnonzero(outputs.argmax(axis=1) != labels).tolist()
    assert [row.errors for row in tabulate([*members, committee])] == [[committee.error]]


def test_a_run_that_fails_is_reported_and_not_repeated(small: Callable[..., list[Record]]) -> None:
    Path("bad.toml").write_text(RECIPE.replace("epochs = 3", 'epochs = 3\nlr = 1e30\nloss = "mse"'))
    (record,) = small("bad")
    assert record.failure is not None
    assert "stopped being finite in epoch 1" in record.failure
    assert record.error == math.inf
    assert small("bad") == [record]
    (row,) = tabulate([record])
    assert row.cells()["error here"] == "1 failed"


def test_records_are_read_back_and_take_the_place_of_the_same_runs(
    small: Callable[..., list[Record]], tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    first, second = small("one", seeds=2)
    assert write_records(path, [second]) == [second]
    assert write_records(path, [first]) == [first, second] == read_records(path)
    newer = dataclasses.replace(first, seconds=5.0)
    elsewhere = dataclasses.replace(first, machine="another machine")
    assert sorted(write_records(path, [newer, elsewhere]), key=lambda r: (r.seeds, r.machine)) == [
        *(newer, elsewhere),
        second,
    ]
    assert read_records(tmp_path / "none.json") == []
    for damaged in ("", "{}", "[]", '{"runs": [{}]}', '{"runs": 3}', "\xff"):
        path.write_text(damaged, encoding="latin-1")
        with pytest.raises(xpnet.ModelError, match=str(path)):
            read_records(path)


# A process that adds 30 records to a file, one after another, once all have begun.
WRITING = """
import dataclasses, sys
from pathlib import Path
from xpnet.studies.records import read_records, write_records

(record,) = read_records(Path("one.json"))
print("ready", flush=True)
sys.stdin.readline()
for seed in range(int(sys.argv[1]), int(sys.argv[1]) + 30):
    write_records(Path("results.json"), [dataclasses.replace(record, seeds=[seed])])
"""


def test_processes_add_to_one_file_of_records_and_none_is_lost(own_directory: None) -> None:
    write_records(Path("one.json"), [record()])
    environment = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITING, first], stdin=-1, stdout=-1, text=True, env=environment)
        for first in ("0", "30", "60")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate() and process.returncode for process in processes] == [0, 0, 0]
    assert sorted(each.seeds[0] for each in read_records(Path("results.json"))) == list(range(90))
    assert {path.name for path in Path().iterdir()} == {"one.json", "results.json"}


def test_what_a_kill_left_half_done_is_set_right(small: Callable[..., list[Record]]) -> None:
    """Between saving the model and writing the result, and between that and removing the checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        small("one", callbacks=[Epochs(fail=3)])
    (directory,) = Path("runs").iterdir()
    shutil.copytree(directory / "checkpoints", "kept")
    log = directory / "history.csv"
    assert log.read_text().count("\n") == 1 + 3
    (first,) = small("one")
    assert log.read_text().count("\n") == 1 + 3, "the epochs before it was stopped"
    assert not (directory / "checkpoints").exists()
    shutil.copytree("kept", directory / "checkpoints")
    assert small("one") == [first]
    assert not (directory / "checkpoints").exists()


@pytest.mark.parametrize("damaged", ['{"runs": []}', '{"runs": [', "an unknown setting"])
def test_a_damaged_result_is_reported_with_the_remedy(small: Callable[..., list[Record]], damaged: str) -> None:
    """Of a committee, whose networks are found by the settings that were recorded."""
    *_, committee = small("three")
    directory = Path("runs/three-seed0")
    content = (directory / "result.json").read_text()
    if "unknown" in damaged:
        damaged = content.replace('"members": 3', '"members": 3, "cunning": 3')
    assert damaged != content
    (directory / "result.json").write_text(damaged)
    with pytest.raises(xpnet.ModelError, match=rf"/result.json is .*; delete {directory} to train it again$"):
        small("three")
    shutil.rmtree(directory)
    assert small("three")[-1].wrong == committee.wrong


def test_recipes_are_checked_before_any_training(small: Callable[..., list[Record]]) -> None:
    Path("more").mkdir()
    for path, text, message in (
        ("fast.toml", RECIPE, "there is another recipe named fast"),
        ("more/one.toml", COMMITTEE, "recipe more/one.toml: there is another recipe named one; rename the file"),
        (
            "single.toml",
            "batch_norm = true\nbatch_size = 1",
            "recipe single: batch_size 1 leaves a last batch of only one",
        ),
    ):
        Path(path).write_text(text)
        with pytest.raises(xpnet.ConfigError, match=message):
            small("one", path.removesuffix(".toml"))
    Path("more/one.toml").write_text(RECIPE)
    assert not Path("runs").exists()
    assert len(small("one", "more/one")) == 1, "the same recipe"


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("members = -3", "members must be at least 0, not -3"),
        ("seeds = -1", "seeds must be at least 0, not -1"),
        ("reported = nan", r"reported must be in \[0, 100\], not nan"),
        ("measured = 100.5", r"measured must be in \[0, 100\], not 100.5"),
    ],
)
def test_a_recipe_tells_numbers_that_can_be(own_directory: None, about: str, message: str) -> None:
    Path("wrong.toml").write_text(f"[about]\n{about}\n")
    with pytest.raises(xpnet.ConfigError, match=f"recipe wrong.toml: {message}"):
        read_recipe("wrong.toml")


def test_no_committee_where_a_network_failed(
    small: Callable[..., list[Record]], caplog: pytest.LogCaptureFixture
) -> None:
    Path("bad.toml").write_text(COMMITTEE.replace("lr = 0.05", 'lr = 1e30\nloss = "mse"'))
    records = small("bad")
    assert [len(record.seeds) for record in records] == [1, 1, 1]
    told = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert told[0].startswith("bad, seed 0 failed: the loss stopped being finite in epoch 1")
    assert told[-1] == "bad: no committee, since 3 of its 3 networks failed"


def test_a_committee_is_where_its_networks_were_trained(small: Callable[..., list[Record]]) -> None:
    *_, committee = small("three")
    for number, path in enumerate(sorted(Path("runs").glob("*/result.json"))):
        (member,) = read_records(path)
        write_records(path.with_name("other.json"), [dataclasses.replace(member, machine=f"machine {min(number, 1)}")])
        path.with_name("other.json").replace(path)
    *_, moved = small("three")
    assert moved == dataclasses.replace(committee, machine="machine 0 and machine 1")


def test_files_of_the_same_name_in_two_folders_are_two_data_sets(
    small: Callable[..., list[Record]], small_data: xpnet.Dataset
) -> None:
    sources = [dataclasses.replace(small_data, source=str(Path(folder).resolve() / "x.npz")) for folder in "ab"]
    epochs = Epochs()
    first, second = (small("one", data=source, callbacks=[epochs])[0] for source in sources)
    assert epochs.count == 6
    assert len(tabulate([first, second])) == 2


def test_a_result_is_not_that_of_data_that_have_changed_since(
    small: Callable[..., list[Record]], small_data: xpnet.Dataset
) -> None:
    old = small("one", seeds=2)
    labels = np.roll(small_data.train.labels, 1)
    changed = dataclasses.replace(small_data, train=xpnet.Split(small_data.train.images, labels))
    remedy = "delete runs/one-seed0 to train it again, or name another folder"
    with pytest.raises(xpnet.ConfigError, match=f"patterns has changed since the run in runs/one-seed0: {remedy}"):
        small("one", data=changed)
    shutil.rmtree("runs/one-seed0")
    (new,) = small("one", data=changed)
    assert new.wrong != old[0].wrong
    path = Path("results.json")
    assert write_records(path, old) == old
    assert write_records(path, [new]) == [new], "no mean of both"


@pytest.mark.parametrize("name", ["mnist", "patterns"])
def test_results_of_earlier_versions_are_those_of_sets_that_do_not_change(
    small: Callable[..., list[Record]], small_data: xpnet.Dataset, name: str
) -> None:
    data = dataclasses.replace(small_data, name=name)
    (known,) = small("one", data=data)
    earlier, path = dataclasses.replace(known, sha256=None), Path("runs/one-seed0/result.json")
    path.unlink()
    write_records(path, [earlier])
    if name == "mnist":
        assert small("one", data=data) == [earlier]
        other = dataclasses.replace(known, seeds=[1])
        assert write_records(path, [other]) == [earlier, other]
    else:
        with pytest.raises(xpnet.ConfigError, match="patterns may have changed since the run in runs/one-seed0"):
            small("one", data=data)


def record(**changes: Any) -> Record:
    settings = {"recipe": "x", "source": "Y 2000, On X", "published": 1.5, "members": 0, "settings": {}, "seeds": [0]}
    settings |= {"data": "mnist", "network": "784-10 relu", "wrong": [1, 2], "n_test": 100, "epochs": 1, "seconds": 4.0}
    return Record(**{**settings, "device": "cpu", "library": "numpy", "machine": "2 CPU threads, NumPy", **changes})


def test_table_shows_mean_and_spread_and_keeps_machines_apart() -> None:
    runs = [record(), record(seeds=[1], wrong=[3], seconds=90.0), record(machine="NVIDIA H200", wrong=[])]
    first, second = tabulate(runs)
    assert first.cells() == {
        "recipe": "x",
        "network": "784-10 relu",
        "source": "Y 2000",
        "published error": "1.50 %",
        "error here": "1.50 ± 0.71 %",
        "runs": "2",
        "training": "47.0 s",
        "on": "2 CPU threads, NumPy",
    }
    assert second.cells()["error here"] == "0.00 %"
    (row,) = tabulate([*runs[:2], record(seeds=[2], wrong=[], seconds=0.0, failure="burst")])
    assert (row.cells()["error here"], row.cells()["training"]) == ("1.50 ± 0.71 %, 1 failed", "47.0 s")
    (row,) = tabulate([record(published=None, seconds=90.0)])
    assert (row.cells()["published error"], row.cells()["training"]) == ("", "1.5 min")


def test_table_keeps_data_and_settings_apart() -> None:
    """A recipe's file may change, and its runs on another set are not comparable."""
    other = record(data="digits", settings={"data": "digits"}, wrong=[])
    first, second, third = tabulate([record(), record(settings={"epochs": 3}, wrong=[1]), other])
    assert [row.errors for row in (first, second, third)] == [[2.0], [1.0], [0.0]]
    assert [row.cells()["recipe"] for row in (first, third)] == ["x", "x (digits)"]
    assert [row.cells()["published error"] for row in (first, third)] == ["1.50 %", ""]


def test_table_leaves_out_runs_of_a_recipe_that_has_changed() -> None:
    assert tabulate([record(recipe="fast")]) == []


def test_milestones_are_recipes_with_a_source_and_the_cheapest_comes_first() -> None:
    names = milestones()
    assert set(names) <= set(recipe_names())
    assert {"fast", "best-cpu", "best", "committee", "simard2003-elastic", "ciresan2010-4"} <= set(names)
    assert names.index("lecun1998-300") < names.index("ciresan2010-1") < names.index("ciresan2010-4")
    for name in names:
        recipe = read_recipe(name)
        assert recipe.what
        assert recipe.source
        published = recipe.reported is not None
        assert published == ("xpnet" not in recipe.source), name
        assert published == bool(recipe.changed), name


def test_what_recipes_reach_is_what_the_results_say() -> None:
    records = read_records(Path(__file__).parents[2] / "bench/results/reproduce.json")
    reached = {row.recipe: 100 - statistics.mean(row.errors) for row in tabulate(records) if row.data == "mnist"}
    assert reached == pytest.approx({name: read_recipe(name).measured for name in reached}, abs=0.0051)
    assert {name for name in milestones() if read_recipe(name).measured is not None} == set(reached)


def test_command(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.toml").write_text(RECIPE)
    command = ("reproduce", "one.toml", "--data", patterns, "--device", "cpu", "--seeds", "2", "--out", "r/r.json")
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert f"one, seed 1: 36-6-3 relu, in {Path('data/xpnet/reproduce/one-seed1').resolve()}\n" in err
    assert "earlier" not in err
    assert "one (patterns.npz)" in out
    content = json.loads(Path("r/r.json").read_text())
    assert [run["seeds"] for run in content["runs"]] == [[0], [1]]
    head, rule, row = Path("r/r.md").read_text().splitlines()
    assert head.startswith("| recipe | network | source | published error | error here |")
    assert len({line.count("|") for line in (head, rule, row)}) == 1
    assert row.startswith("| one (patterns.npz) | 36-6-3 relu | Somebody 1999 |  | "), "what was published is of MNIST"
    assert main([*command, "--quiet"]) == 0
    again = capsys.readouterr()
    assert again.out == out
    assert "one, seed" not in again.err


def test_command_that_is_quiet_prints_the_table_alone(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.toml").write_text(RECIPE)
    before = set(Path().iterdir())
    assert main(["reproduce", "one.toml", "--data", patterns, "--device", "cpu", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "one (patterns.npz)" in out
    assert not err
    assert set(Path().iterdir()) - before == {Path("data")}
    assert {path.name for path in Path("data/xpnet/reproduce").iterdir()} == {"one-seed0", "results.json", "results.md"}
    assert main(["reproduce", "one.toml", "--data", patterns, "--device", "cpu", "--quiet", "--runs", "mine"]) == 0
    assert {path.name for path in Path("mine").iterdir()} == {"one-seed0", "results.json", "results.md"}


def test_a_narrow_terminal_shows_fewer_columns_and_no_broken_names() -> None:
    name = "lecun1998-300-100-distorted"
    rows = tabulate([record(recipe=f"{name}-2"), record(recipe=f"{name}-2", seeds=[1], wrong=[], seconds=6000.0)])
    for columns, shown in ((80, "runs  training"), (200, "on"), (45, "error here")):
        screen = io.StringIO()
        console = Console(file=screen, width=columns, force_terminal=True, color_system=None)
        print_table([row.cells() for row in rows], COLUMNS, console, less=LESS)
        head, line = screen.getvalue().splitlines()
        assert head.endswith(shown)
        assert max(len(head), len(line)) <= columns
        assert line.startswith(f"{name}-2 ")
        assert ("1.50 %" in line) == (columns > 45)
        assert "1.00 ± 1.41 %" in line


def test_markdown_is_a_line_for_each_row_whatever_a_recipe_says() -> None:
    (*_, line) = _markdown([record(source="A | B\n 1999")]).splitlines()
    assert line.startswith(r"| x | 784-10 relu | A \| B 1999 | 1.50 % |")


def test_command_tells_what_is_wrong(patterns: str, fails: Callable[..., str]) -> None:
    unknown = fails(2, "reproduce", "fats", "--data", patterns)
    assert unknown.startswith("unknown recipe 'fats'; did you mean 'fast'? the choices are")
    assert fails(2, "reproduce", "--out", "r.txt") == "--out must name a .json file, not r.txt"
    assert "budget must be more than 0" in fails(2, "reproduce", "--data", patterns, "--budget", "-1")
    for seeds in ("0", "1001", f"1{'0' * 400}"):
        message = fails(2, "reproduce", "--data", patterns, "--seeds", seeds)
        assert message == f"--seeds must be at least 1 and at most 1,000, not {int(seeds):,}"
    assert not Path("data").exists(), "nothing is written before all is checked"
    Path("file").write_text("")
    for flags in (("--runs", "file"), ("--runs", "file/runs"), ("--out", "file/results.json")):
        message = fails(2, "reproduce", "fast", "--data", "nothere", *flags)
        assert re.match(r"cannot write the folder of the (runs|results) file.*: Not a directory; name another", message)
    Path("t.md").mkdir()
    assert fails(1, "reproduce", "fast", "--data", patterns, "--out", "t.json") == "t.md: Is a directory"
    Path("r.json").write_text("{}")
    assert "r.json is damaged" in fails(1, "reproduce", "fast", "--data", patterns, "--out", "r.json")


def test_command_that_is_interrupted_shows_what_is_finished_and_says_how_to_go_on(
    patterns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("one.toml").write_text(RECIPE)
    command = ("reproduce", "one.toml", "--data", patterns, "--device", "cpu", "--seeds", "2")
    monkeypatch.setattr("xpnet.cli.reproduce.Progress", lambda: Epochs(fail=1))
    assert main(command) == 130
    out, err = capsys.readouterr()
    assert "no results yet" in err
    assert not out
    epochs = Epochs(fail=4)
    monkeypatch.setattr("xpnet.cli.reproduce.Progress", lambda: epochs)
    assert main(command) == 130
    out, err = capsys.readouterr()
    assert "interrupted; the same command continues from the last finished epoch" in err
    assert "one " in out
    assert main(command) == 0
    assert epochs.count == 5


# --- where runs lie --------------------------------------------------------------------------------------------------


def test_what_another_recipe_holds_is_left_and_the_run_lies_beside_it(
    small: Callable[..., list[Record]], small_data: xpnet.Dataset
) -> None:
    first = small("one", seeds=2)
    Path("one.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 2"))
    changed = small("one")
    elsewhere = small("one", data=dataclasses.replace(small_data, name="other", source=str(Path("other").resolve())))
    names = sorted(path.name for path in Path("runs").iterdir())
    assert [re.sub("-[0-9a-f]{8}$", "-DIGEST", name) for name in names] == [
        *("one-seed0", "one-seed0-DIGEST", "one-seed0-DIGEST", "one-seed1"),
    ]
    epochs = Epochs()
    assert small("one", callbacks=[epochs]) == changed != elsewhere
    Path("one.toml").write_text(RECIPE)
    assert small("one", seeds=2, callbacks=[epochs]) == first
    assert epochs.count == 0


def test_a_stopped_run_of_other_settings_is_left_too(small: Callable[..., list[Record]]) -> None:
    with pytest.raises(KeyboardInterrupt):
        small("one", callbacks=[Epochs(fail=2)])
    Path("one.toml").write_text(RECIPE.replace("batch_size = 50", "batch_size = 40"))
    assert [record.epochs for record in small("one")] == [3]
    Path("one.toml").write_text(RECIPE)
    rest = Epochs()
    small("one", callbacks=[rest])
    assert rest.count == 1
    Path("runs/three-seed0").mkdir()
    Path("runs/three-seed0/model.safetensors").write_text("somebody's")
    small("three")
    assert Path("runs/three-seed0/model.safetensors").read_text() == "somebody's"


def test_runs_on_another_library_are_others(small: Callable[..., list[Record]], small_data: xpnet.Dataset) -> None:
    small("one")
    strict = open_backend("array-api-strict")
    (record,) = reproduce(recipes_of(["one.toml"]), small_data, strict, Path("runs"))
    assert record.library == "array-api-strict"
    assert len(list(Path("runs").iterdir())) == 2


def test_runs_of_earlier_versions_are_found_where_they_lie(small: Callable[..., list[Record]]) -> None:
    (known,) = small("one")
    earlier = Path("runs/numpy-cpu/36-6-3-3ae39a19-seed0")
    earlier.parent.mkdir()
    digest = hashlib.sha256(json.dumps(known.settings, sort_keys=True).encode()).hexdigest()[:8]
    earlier = earlier.with_name(f"36-6-3-{digest}-seed0")
    Path("runs/one-seed0").rename(earlier)
    epochs = Epochs()
    assert small("one", callbacks=[epochs]) == [known]
    assert epochs.count == 0
    (earlier / "result.json").write_text((earlier / "result.json").read_text().replace("[6]", "[7]"))
    with pytest.raises(xpnet.ModelError, match="is not the result of the run in its directory; delete"):
        small("one")


# --- the plan --------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_is_missing(small: Callable[..., list[Record]], small_data: xpnet.Dataset) -> None:
    small("one", seeds=2)
    reported: list[tuple[int, int]] = []
    recipes = recipes_of(["one.toml", "three.toml"])
    one, three = plan(
        recipes, small_data, xpnet.select("cpu"), Path("runs"), seeds=3, report=lambda *it: reported.append(it)
    )
    assert one[:5] == ("one", "36-6-3 relu", 3, 1, 2)
    assert three[:5] == ("three", "36-6-3 relu", 3, 3, 0)
    assert 0 < one.seconds < 60
    assert reported == [(0, 2), (1, 2)]
    assert {path.name for path in Path("runs").iterdir()} == {"one-seed0", "one-seed1"}, "it writes nothing"


@pytest.fixture
def asked(
    patterns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """xpnet reproduce without names on a terminal, by two small recipes; what is answered, and what stderr shows."""
    for name, text in {"one": RECIPE, "three": COMMITTEE}.items():
        Path(f"{name}.toml").write_text(text)
    monkeypatch.setattr("xpnet.cli.reproduce.milestones", lambda: ["one.toml", "three.toml"])

    def run(answer: str, *arguments: str) -> tuple[int, str]:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        with monkeypatch.context() as patch:
            shown = Terminal()
            patch.setattr(sys, "stdin", Terminal(answer))
            patch.setattr(sys, "stderr", shown)
            status = main(["reproduce", "--data", patterns, "--device", "cpu", *arguments])
        return status, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.getvalue())

    return run


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "what?\n"])
def test_without_names_nothing_is_trained_unless_one_agrees(asked: Callable[..., tuple[int, str]], answer: str) -> None:
    status, shown = asked(answer)
    assert status == 0
    lines = shown.splitlines()
    assert re.search(r"^one +36-6-3 relu +3 +1 +0 s$", shown, re.MULTILINE)
    assert re.search(r"^three +36-6-3 relu +3 +3 +\d s$", shown, re.MULTILINE)
    assert f"4 runs, in {Path('data/xpnet/reproduce').resolve()}: about" in " ".join(lines)
    assert lines[-1].endswith("nothing was trained")
    assert not Path("data").exists()


def test_without_names_all_are_trained_if_one_agrees(
    asked: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = asked("y\n", "--quiet")
    assert status == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"recipe", "one", "three"}
    status, shown = asked("", "--quiet")
    assert (status, shown) == (0, ""), "all are finished: there is nothing to ask"


def test_without_names_and_without_a_terminal(
    patterns: str, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(2, "reproduce", "--data", "nothere")
    assert message.startswith(f"without names, all {len(milestones())} recipes are trained, which may take days")
    assert message.endswith("add --yes")
    Path("one.toml").write_text(RECIPE)
    monkeypatch.setattr("xpnet.cli.reproduce.milestones", lambda: ["one.toml"])
    assert main(["reproduce", "--yes", "--data", patterns, "--device", "cpu"]) == 0
    assert "one " in capsys.readouterr().out


def test_results_of_earlier_versions_are_pointed_at(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.toml").write_text(RECIPE)
    Path("runs/reproduce").mkdir(parents=True)
    command = ["reproduce", "one.toml", "--data", patterns, "--device", "cpu"]
    assert main(command) == 0
    hint = "runs/reproduce holds earlier runs: --runs runs/reproduce continues with them"
    assert hint in capsys.readouterr().err
    assert main([*command, "--runs", "runs/reproduce"]) == 0
    assert hint not in capsys.readouterr().err
