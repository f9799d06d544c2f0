"""Several processes work on one folder of runs, or on one study: nothing is done twice, and nothing is lost."""

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import xpnet
from tests.studies import postgresql
from xpnet.cli import main
from xpnet.files import locked
from xpnet.studies.records import Record, read_records
from xpnet.studies.reproduce import recipes_of, reproduce
from xpnet.studies.tune import tune
from xpnet.studies.tune.storage import masked, open_storage
from xpnet.training import directory
from xpnet.training.history import read_history
from xpnet.training.run import Run

pytestmark = pytest.mark.usefixtures("own_directory")

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
HANGS = 300  # seconds after which a process hangs

RECIPE = "hidden = [6]\nepochs = 3\nbatch_size = 50\n[about]\n"

# xpnet, whose processes wait for each other in their first epoch, and of which one may stay there for good.
WORKER = """
import os, pathlib, sys, time
import xpnet
from xpnet.cli import main, reproduce
from xpnet.training.directory import RunDirectory

processes, stays, *command = sys.argv[1:]
met = pathlib.Path(f"met-{os.getpid()}")

class Meet(xpnet.Callback):
    def on_epoch(self, run):
        met.touch()
        for _ in range(6000):
            if len(list(pathlib.Path().glob("met-*"))) >= int(processes):
                break
            time.sleep(0.01)
        else:
            sys.exit("nobody came")
        while stays and len(run.history) == 3 and list(pathlib.Path().rglob("step-*")):
            time.sleep(0.01)

reproduce.Progress = Meet
RunDirectory._draw = lambda *_: None  # it takes longer than all the rest
RunDirectory._is_due = lambda _: True  # every epoch is written
status = main(command)
assert "mpi4py" not in sys.modules
sys.exit(status)
"""


@contextlib.contextmanager
def started(*command: str, processes: int = 1, stays: str = "", text: str = WORKER) -> Iterator[Any]:
    """A worker, which is killed at the end if it is not over."""
    whole = [sys.executable, "-W", "error", "-c", text, str(processes), stays, *command]
    with subprocess.Popen(whole, stdout=-1, stderr=-1, text=True, env=ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(processes: list[Any]) -> tuple[list[str], list[str]]:
    """What they print on stdout and stderr, once all have ended well."""
    said = [process.communicate(timeout=HANGS) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return [out for out, _ in said], [err for _, err in said]


def by_run(records: list[Record]) -> dict[tuple[str, tuple[int, ...]], Record]:
    """The records without what differs between two trainings."""
    return {(record.recipe, tuple(record.seeds)): replace(record, seconds=0.0) for record in records}


# --- reproduce -------------------------------------------------------------------------------------------------------


def test_workers_share_the_runs_and_each_is_trained_once(patterns: str) -> None:
    Path("one.toml").write_text(RECIPE)
    Path("three.toml").write_text(f"lr = 0.05\n{RECIPE}members = 3\n")
    command = ["reproduce", "one.toml", "three.toml", "--data", patterns, "--device", "cpu", "--seeds", "4", "--runs"]
    with contextlib.ExitStack() as running:
        workers = [running.enter_context(started(*command, "shared", processes=3)) for _ in range(3)]
        tables, lines = ended(workers)
    trained = re.findall(r"^(\w+), seed (\d): 36-6-3", "".join(lines), re.MULTILINE)
    assert sorted(trained) == [*(("one", str(i)) for i in range(4)), *(("three", str(i)) for i in range(3))]
    assert all(re.search("^(one|three), seed ", said, re.MULTILINE) for said in lines), "all three have trained"
    with started(*command, "alone") as worker:
        (table,), _ = ended([worker])
    assert re.sub(r"\d+\.\d s", "", tables[0]) == re.sub(r"\d+\.\d s", "", table)
    shared, alone = (by_run(read_records(Path(folder, "results.json"))) for folder in ("shared", "alone"))
    assert shared == alone
    assert len(shared) == 4 + 3 + 1
    written = Path("shared/results.md").read_text()
    assert written.count("\n") == 2 + 2
    for path in Path("alone").rglob("model.safetensors"):
        assert path.read_bytes() == Path("shared", path.relative_to("alone")).read_bytes()
    names = {path.relative_to("shared") for path in Path("shared").rglob("*")}
    assert names == {path.relative_to("alone") for path in Path("alone").rglob("*")}, "no locks are left"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_the_run_of_a_killed_worker_is_continued_by_one_that_waits(patterns: str) -> None:
    Path("one.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 5"))
    command = ["reproduce", "one.toml", "--data", patterns, "--device", "cpu", "--runs"]
    with started(*command, "shared", stays="yes") as doomed:
        while not list(Path("shared").rglob("step-*")):
            assert doomed.poll() is None
            time.sleep(0.01)
        with started(*command, "shared") as heir:
            said = ""
            while "waiting for" not in said:
                said = heir.stderr.readline()
                assert said, "it ended instead"
            assert re.fullmatch(rf"waiting for process {doomed.pid} on .*, which trains one, seed 0\n", said)
            doomed.send_signal(signal.SIGKILL)
            (table,), (err,) = ended([heir])
    assert re.search(r"^continuing shared/one-seed0 after epoch [123]$", err, re.MULTILINE), err
    assert "one " in table
    with started(*command, "alone") as worker:
        ended([worker])
    shared, alone = Path("shared/one-seed0"), Path("alone/one-seed0")
    assert (shared / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()
    assert by_run(read_records(shared / "result.json")) == by_run(read_records(alone / "result.json"))
    assert {path.name for path in shared.iterdir()} == {path.name for path in alone.iterdir()}


def test_mpiexec_starts_workers_and_no_team(patterns: str) -> None:
    pytest.importorskip("mpi4py", reason="needs mpi4py, of the extra mpi")
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("needs mpiexec, of the extra mpi")
    Path("one.toml").write_text(RECIPE)
    command = ["reproduce", "one.toml", "--data", patterns, "--device", "cpu", "--seeds", "2", "--runs", "shared"]
    done = subprocess.run(
        [mpiexec, "-n", "2", sys.executable, "-W", "error", "-c", WORKER, "2", "", *command],
        *(), capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=HANGS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"one, seed (\d): 36-6-3", done.stderr)) == ["0", "1"]
    assert [record.seeds for record in read_records(Path("shared/results.json"))] == [[0], [1]]


@pytest.fixture
def shared(small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Record]]:
    """reproduce of the recipe "one" in the folder "runs"."""
    monkeypatch.setattr("xpnet.studies.reproduce.PAUSE", 0.01)
    Path("one.toml").write_text(RECIPE)

    def run(**options: Any) -> list[Record]:
        backend = xpnet.select("cpu")
        return list(reproduce(recipes_of(["one.toml"]), small_data, backend, Path("runs"), **options))

    return run


def test_the_others_come_first_and_the_budget_ends_the_waiting(
    shared: Callable[..., list[Record]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += 25.0

    monkeypatch.setattr("xpnet.studies.reproduce.time", Clock())
    Path("runs/one-seed0").mkdir(parents=True)
    caplog.set_level("INFO")
    with locked(Path("runs/one-seed0/.lock")):
        assert [record.seeds for record in shared(seeds=3, minutes=1.0)] == [[1], [2]]
    assert re.fullmatch(rf"waiting for process {os.getpid()} on .+, which trains one, seed 0", caplog.messages[-2])
    assert caplog.messages[-1] == "the budget is spent; the same command continues"
    assert sum("waiting" in message for message in caplog.messages) == 1
    assert not list(Path("runs/one-seed0").iterdir())


def test_what_another_process_did_before_the_lock_was_had_is_seen(
    shared: Callable[..., list[Record]], small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finished the run, or it began one of other settings under that name."""
    quicker: list[Callable[[], Any]] = [shared]

    @contextlib.contextmanager
    def late(path: Path) -> Iterator[None]:
        if quicker:
            quicker.pop()()
        with directory.claim(path):
            yield

    def other() -> None:
        Path("one.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 2"))
        shared()

    monkeypatch.setattr("xpnet.studies.reproduce.claim", late)
    epochs: list[int] = []

    class Count(xpnet.Callback):
        def on_epoch(self, run: Run) -> None:
            epochs.append(len(run.history))

    assert len(shared(callbacks=[Count()])) == 1
    assert not epochs
    shutil.rmtree("runs")
    quicker.append(other)
    assert [record.epochs for record in shared(callbacks=[Count()])] == [3]
    assert epochs == [1, 2, 3]
    assert len(list(Path("runs").iterdir())) == 2


def test_a_file_system_without_locks_is_an_error_of_work_that_is_shared(
    patterns: str, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="Windows has no fcntl")

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    Path("one.toml").write_text(RECIPE)
    command = ["reproduce", "one.toml", "--data", patterns, "--device", "cpu", "--runs", "runs", "--quiet"]
    message = "runs is on a file system without locks (No locks available), by which processes share the work: name a "
    assert fails(2, *command) == f"{message}folder on another one"
    assert not list(Path("runs").iterdir())
    assert main(["train", "--data", patterns, "--device", "cpu", "--epochs", "1", "--out", "a", "--quiet"]) == 0
    capsys.readouterr()
    pytest.importorskip("optuna", reason="needs Optuna, of the extra tune")
    search = ["tune", "--data", patterns, "--device", "cpu", "--epochs", "1", "--trials", "1", "--out", "study"]
    assert fails(2, *search, "--quiet") == message.replace("runs", "study") + "folder on another one"
    assert not Path("study").exists()


# --- tune ------------------------------------------------------------------------------------------------------------

# xpnet tune, whose processes begin the study at once, and wait for each other after their first trial; one may stay in
# its second trial for good.
SEARCHER = """
import os, pathlib, sys, time
from xpnet.cli import main, tune
from xpnet.studies.tune import study

processes, stays, *command = sys.argv[1:]

def meet(where):
    pathlib.Path(f"{where}-{os.getpid()}").touch()
    for _ in range(60_000):
        if len(list(pathlib.Path().glob(f"{where}-*"))) >= int(processes):
            return
        time.sleep(0.001)
    sys.exit("nobody came")

def stay(*_, **__):
    pathlib.Path("stays").touch()
    time.sleep(3600)

def search(*arguments, report, **options):
    def counted(trial):
        report(trial)
        meet("met")
        if stays:
            study.fit = stay
    meet("begun")
    return real(*arguments, report=counted, **options)

real, tune.search = tune.search, search
sys.exit(main(command))
"""
TUNE = ["tune", "--device", "cpu", "--hidden", "8", "--epochs", "2", "--validation", "0.2", "--trials", "8"]


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra postgresql")
    with postgresql.server() as running:
        yield running


@pytest.fixture(params=["journal", "postgresql"])
def storage(request: pytest.FixtureRequest) -> list[str]:
    """The flags for where a study is kept: in its folder, or in a database."""
    pytest.importorskip("optuna", reason="needs Optuna, of the extra tune")
    if request.param == "journal":
        return []
    name = re.sub(r"\W", "-", request.node.name)
    return ["--storage", request.getfixturevalue("server").url, "--study", name]


def trials(storage: list[str]) -> list[Any]:
    """The trials of the study in the folder "study"."""
    import optuna

    with contextlib.ExitStack() as closing:
        place, name = (storage[1], storage[3]) if storage else ("study/study.journal", "study")
        return list(optuna.load_study(storage=open_storage(optuna, place, closing), study_name=name).trials)


def test_workers_share_a_study_and_the_last_one_trains_its_best_settings(patterns: str, storage: list[str]) -> None:
    command = [*TUNE, "--data", patterns, "--out", "study", *storage]
    with contextlib.ExitStack() as running:
        workers = [running.enter_context(started(*command, processes=3, text=SEARCHER)) for _ in range(3)]
        results, lines = ended(workers)
    found = trials(storage)
    assert [trial.number for trial in found] == list(range(len(found)))
    assert {trial.state.name for trial in found} <= {"COMPLETE", "PRUNED"}
    assert 8 <= len(found) <= 8 + 2
    assert ["start" in trial.user_attrs for trial in found] == [True] + [False] * (len(found) - 1)
    printed = re.findall(r"^  trial (\d+) ", "".join(lines), re.MULTILINE)
    assert sorted(map(int, printed)) == list(range(len(found))), "each by one of them"
    (last,) = (i for i, out in enumerate(results) if "test accuracy" in out)
    for i, said in enumerate(lines):
        others = "|".join(str(worker.pid) for worker in workers if worker is not workers[i])
        leaves = re.search(rf"process ({others}) on .* is still searching; the last process to end trains the", said)
        assert (leaves is None) == (i == last), said
    kept = {path.name for path in Path("study").iterdir()} - {"study.journal"}
    (best,) = kept - {"best.toml"}
    assert best.startswith("best-trial-")
    assert len(read_history(Path("study", best))) == 2
    assert not any(postgresql.QUOTED in said for said in (*results, *lines))


@pytest.mark.parametrize("killed", [False, True])
def test_a_study_that_another_process_is_just_beginning_has_one_start(
    small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """It has created the study, and then proposes the start and says on which terms, unless it is killed."""
    optuna = pytest.importorskip("optuna", reason="needs Optuna, of the extra tune")
    space = {"lr": {"low": 0.01, "high": 0.1}}
    config = xpnet.TrainConfig(device="cpu", hidden=(8,), epochs=1)
    tune(small_data, space, config, trials=1, storage="known.journal", study="study")
    with contextlib.ExitStack() as closing:
        place = open_storage(optuna, "known.journal", closing)
        terms = optuna.load_study(storage=place, study_name="study").user_attrs["terms"]
        place = open_storage(optuna, "study/study.journal", closing)
        begun = optuna.create_study(storage=place, study_name="study", direction="maximize")
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if not killed and len(looks) == 3:
            begun.enqueue_trial({"lr": 0.05}, user_attrs={"start": True})
        elif not killed and len(looks) == 5:
            begun.set_user_attr("terms", terms)

    monkeypatch.setattr("xpnet.studies.tune.study.time", SimpleNamespace(sleep=sleep))
    tuned = tune(small_data, space, config, trials=2, storage="study/study.journal", study="study")
    assert len(looks) == (50 if killed else 5)
    assert ["start" in trial.user_attrs for trial in trials([])] == [True, False]
    assert tuned.trials == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_is_killed_in_a_trial_holds_nobody_up(patterns: str, storage: list[str]) -> None:
    command = [*TUNE, "--data", patterns, "--out", "study", *storage]
    with started(*command, stays="yes", text=SEARCHER) as doomed:
        while not Path("stays").exists():
            assert doomed.poll() is None
            time.sleep(0.01)
        doomed.send_signal(signal.SIGKILL)
        doomed.communicate()
    assert [path for path in Path("study").iterdir() if path.name.startswith(".worker-")]
    with started(*command, text=SEARCHER) as heir:
        (out,), (err,) = ended([heir])
    assert "best of 8 trials" in out
    assert "test accuracy" in out, err
    assert [trial.number for trial in trials(storage) if trial.state.name == "RUNNING"] == [1]
    names = {path.name for path in Path("study").iterdir()} - {"study.journal"}
    assert names == {"best.toml", *(name for name in names if name.startswith("best-trial-"))}


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            postgresql.QUOTED,
            "wrong%2Fsecret",
            r"\(.*password authentication failed for user \"worker\"\): name another",
        ),
        ("worker", "boss", r"\(.*password authentication failed for user \"boss\"\): name another"),
        ("/postgres?", "/nothere?", r"\(.*database \"nothere\" does not exist\): name another storage"),
        ("host=", "host=/nowhere", r"\(.*\"/nowhere/.*No such file or directory\): name another storage"),
        ("%40", "@", "is not a URL of a database, .*: in the password, %40 stands for @, %3A for : and %2F for /"),
        ("@/", "@localhost:port/", "is not a URL of a database, "),
        ("postgresql:", "postgresql+nosuch:", r"\(Can't load plugin: .*nosuch\): name another storage"),
    ],
)
def test_a_database_that_cannot_be_had_is_one_line_before_the_data_are_read(
    server: postgresql.Server, fails: Callable[..., str], old: str, new: str, message: str
) -> None:
    assert old in server.url
    said = fails(2, *TUNE, "--data", "nothere", "--storage", server.url.replace(old, new))
    assert re.match(r"(cannot use )?postgresql(\+nosuch)?://(worker|boss):\*\*\*@", said)
    assert re.search(message, said)
    assert not any(part in said for part in ("sec%", "sec/", "ret@", "ret%", "1@", "wrong", "secret"))
    assert not Path("runs").exists()


def test_the_driver_is_asked_for_by_name(fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason="needs Optuna, of the extra tune")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    message = fails(1, *TUNE, "--data", "nothere", "--storage", "postgresql://me:secret@localhost/studies")
    assert message == ('a study in PostgreSQL needs psycopg, which is not installed: pip install "xpnet[postgresql]"')


def test_a_server_that_stops_ends_the_study_with_one_line(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra postgresql")
    with postgresql.server() as running:

        def stop(*_: Any) -> None:
            running.process.send_signal(signal.SIGINT)
            running.process.wait()

        monkeypatch.setattr("xpnet.cli.tune._print_trial", stop)
        assert main([*TUNE, "--data", patterns, "--out", "study", "--storage", running.url]) == 1
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert re.match(
        r"xpnet: error: cannot continue the study 'study' in postgresql://worker:\*\*\*@/postgres\?host=", last
    )
    assert postgresql.PASSWORD not in out + err
    assert postgresql.QUOTED not in out + err
    assert not Path("study").exists()


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("study.journal", "study.journal"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("postgresql://me@host/studies", "postgresql://me@host/studies"),
        ("postgresql://me:a/b@c:d@host:5432/studies", "postgresql://me:***@host:5432/studies"),
        ("mysql+pymysql://:secret@host/x?charset=utf8", "mysql+pymysql://:***@host/x?charset=utf8"),
        ("postgresql://me@/x?host=/a&password=se@cret&b=1", "postgresql://me@/x?host=/a&password=***&b=1"),
        ("postgresql://me@/x?sslpassword=secret", "postgresql://me@/x?sslpassword=***"),
    ],
)
def test_a_storage_is_shown_without_its_password(storage: str, shown: str) -> None:
    assert masked(storage) == shown
