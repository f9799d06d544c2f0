"""Teams of real processes: what they say to each other, and that no fault of one leaves the others waiting."""

import json
import re

import pytest

from .launching import Finished, launch, needs_mpi

pytestmark = needs_mpi

START = """
import os, signal, sys, time
import numpy as np
from xpnet.distributed import agree, started
from xpnet.errors import ConfigError, DeviceError, TeamError
team = started()
"""


def together(n: int, program: str, limit: float = 120) -> Finished:
    return launch(n, START + program, limit=limit)


def test_who_is_who() -> None:
    program = "print(team.rank, team.size, team.local_rank, team.where.split(' on ')[0], team.library.split()[0])"
    status, out, err = together(4, program)
    assert (status, err) == (0, "")
    assert sorted(out.splitlines()) == [f"{rank} 4 {rank} process {rank} MPICH" for rank in range(4)]


EXCHANGE = """
import xpnet.distributed._mpi as mpi
def whole(rank, shape, dtype):
    n = int(np.prod(shape))
    values = (np.arange(n) * 7 + 13 * rank) % 120
    return (values % 2 == 0 if dtype == "?" else values).astype(dtype).reshape(shape)
def check(shape, dtype, layout=np.asarray, bit=1):
    peer = team.rank ^ bit
    ours, expected = layout(whole(team.rank, shape, dtype)), whole(peer, shape, dtype)
    ours.flags.writeable = False
    theirs = team.exchange(ours, peer)
    both = team.exchange(ours.ravel(), peer, both=True)
    in_order = (ours, theirs) if team.rank < peer else (theirs, ours)
    assert np.array_equal(both, np.concatenate([each.ravel() for each in in_order]))
    assert (theirs.dtype, theirs.shape, theirs.flags.writeable) == (expected.dtype, shape, True)
    assert np.array_equal(theirs, expected), (shape, dtype)
    assert np.array_equal(ours, whole(team.rank, shape, dtype))
for bit in (1, 2):
    for dtype in ("f4", "f8", "f2", "i4", "u1", "i8", "?", "c8", ">f4"):
        check((5,), dtype, bit=bit)
    for shape in ((), (1,), (0,), (3, 0), (7, 3, 2), (40_001,), (1 << 19,)):
        check(shape, "f4", bit=bit)
    check((7, 3, 2), "f8", lambda a: a.copy("F"), bit)
    check((7, 3, 2), "f8", lambda a: a.T.copy().T, bit)
    check((7, 3, 2), "f8", lambda a: np.repeat(a, 2, -1)[..., ::2], bit)
mpi.CHUNK = 1000  # of several messages
check((40_001,), "f4")
nan = team.exchange(np.array([np.nan, -0.0, np.inf]) * (team.rank + 1), team.rank ^ 1)
assert np.isnan(nan[0]) and np.signbit(nan[1]) and nan[2] == np.inf
print("equal")
"""


def test_arrays_are_exchanged() -> None:
    assert together(4, EXCHANGE) == (0, "equal\n" * 4, "")


def test_what_cannot_be_exchanged_is_an_error() -> None:
    program = """
try:
    team.exchange(np.array(["a", None]), 1 - team.rank)
except TypeError:
    print("no objects")
"""
    assert together(2, program) == (0, "no objects\n" * 2, "")


TOLD = """
assert team.gather({"rank": team.rank}) == [{"rank": rank} for rank in range(4)]
assert team.gather("x" * 10_000 * team.rank) == ["x" * 10_000 * rank for rank in range(4)]
assert team.gather(None) == [None] * 4
def checkpoint():
    rng = np.random.default_rng(7)
    large = rng.random((2000, 5_000), np.float32)
    odd = {"none": np.zeros((0, 3)), "column": np.asfortranarray(large[:50, :40]), "every third": large[::3, ::3]}
    return {"large": large, "odd": odd, "text": "a", "nothing": None, "number": np.float64(0.1), "list": [large[0], 3]}
told = team.told(checkpoint() if team.rank == 0 else "not this")
assert told["large"].flags.writeable and told["large"].nbytes == 40_000_000
expected = checkpoint()
np.testing.assert_equal(told, expected)
assert told["odd"]["none"].shape == (0, 3)
assert team.told(team.rank) == 0
assert team.told(None) is None
print("equal")
"""


def test_values_are_gathered_and_told() -> None:
    assert together(4, TOLD) == (0, "equal\n" * 4, "")


TOGETHER = """
def fails(ranks, error):
    def what():
        if team.rank in ranks:
            raise error
        return team.rank
    return what
assert team.together(fails([], None)) == team.rank
for ranks, error in [
    ([0], ConfigError("lr must be small", setting="lr")),
    ([1], ConfigError("lr must be small", setting="lr")),
    ([2, 3], DeviceError("no GPU", "buy one")),
    ([0, 1, 2, 3], ValueError("everywhere")),
    ([3], FileNotFoundError(2, "No such file", "/data")),
    ([1], KeyboardInterrupt()),
    ([2], SystemExit(5)),
]:
    try:
        team.together(fails(ranks, error))
    except BaseException as shared:
        assert type(shared) is type(error) and team.shared(shared), shared
        assert not team.shared(type(error)("private")) and not team.shared(ValueError())
        assert (shared is error) == (team.rank == ranks[0])
        assert getattr(shared, "setting", "lr") == "lr" and getattr(shared, "what", "no GPU") == "no GPU"
        if isinstance(shared, SystemExit):
            assert shared.code == 5
        print(team.rank, str(shared).replace(os.uname().nodename, "HOST"))
    else:
        raise AssertionError
"""


def test_all_raise_the_first_error_of_any() -> None:
    status, out, err = together(4, TOGETHER)
    assert (status, err) == (0, "")
    of_first = ["lr must be small", "process 1 on HOST: lr must be small", "process 2 on HOST: no GPU: buy one"]
    of_first += ["everywhere", "process 3 on HOST: /data: No such file", "", "5"]
    there = {1: {1: "lr must be small"}, 2: {2: "no GPU: buy one"}, 3: {4: "[Errno 2] No such file: '/data'"}, 0: {}}
    for rank, own in there.items():
        said = [line.partition(" ")[2] for line in out.splitlines() if line.startswith(f"{rank} ")]
        assert said == [own.get(i, message) for i, message in enumerate(of_first)]


def test_an_error_that_all_share_ends_all() -> None:
    """The program catches nothing: each process ends by the error, and none is killed."""
    status, out, err = together(2, "team.together(lambda: [0][team.rank])")
    assert (status, out) == (1, "")
    assert "IndexError: list index out of range\n" in err
    assert "IndexError: process 1 on " in err


def test_an_error_of_one_process_ends_all() -> None:
    program = """
if team.rank == 1:
    raise ValueError("alone")
team.gather(0)
print("never")
"""
    status, out, err = together(2, program)
    assert (status, out) == (1, "")
    assert err.endswith("ValueError: alone\n")
    assert err.count("Traceback") == 1


@pytest.mark.parametrize("call", ["team.gather(0)", "team.told(0)", "team.exchange(np.zeros(3), 0)"])
def test_nobody_waits_for_a_process_that_has_ended(call: str) -> None:
    program = f"""
team.gather(0)
team.exchange(np.zeros(3), 1 - team.rank)
if team.rank == 0:
    sys.exit(0)
try:
    {call}
except TeamError as error:
    print(str(error).replace(os.uname().nodename, "HOST"))
    team.abort(5)
"""
    said = "process 0 has ended, although process 1 on HOST waits for it\n"
    assert together(2, program) == (5, said, "")


def test_who_leaves_early_is_not_missed() -> None:
    """Process 0 tells all what they need, and leaves long before process 2, which is to pass it on, takes part."""
    program = """
if team.rank == 2:
    time.sleep(1)
assert team.told("all" if team.rank == 0 else "") == "all"
if team.rank > 1:
    team.exchange(np.zeros(3), team.rank ^ 1)
    if team.rank == 2:
        time.sleep(0.5)
    team.exchange(np.zeros(3), team.rank ^ 1)
print("done")
"""
    assert together(4, program) == (0, "done\n" * 4, "")


def test_waiting_sleeps() -> None:
    """However busy the machine is, a process that waits gives up the core each time that it looks."""
    program = """
from resource import RUSAGE_SELF, getrusage
team.gather(0)
before = getrusage(RUSAGE_SELF)
if team.rank == 0:
    time.sleep(1)
team.gather(0)
after = getrusage(RUSAGE_SELF)
looks = after.ru_nvcsw - before.ru_nvcsw
if team.rank == 1:
    print(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 0.001 * looks)
"""
    assert together(2, program) == (0, "True\n", "")


def test_an_abort_ends_all_with_its_exit_code() -> None:
    program = """
if team.rank == 1:
    print("first")
    print("then", file=sys.stderr)
    team.abort(7)
team.gather(0)
"""
    assert together(2, program) == (7, "first\n", "then\n")


def test_a_process_that_is_killed_ends_all() -> None:
    program = """
team.gather(0)
if team.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
team.gather(0)
print("never")
"""
    status, out, _ = together(4, program)
    assert status != 0
    assert "never" not in out


def test_unlike_processes_agree_on_what_they_differ_in() -> None:
    program = """
import logging
logging.basicConfig(format="%(message)s", stream=sys.stdout)
agree(team, {"NumPy": np.__version__}, {"BLAS kernel": team.rank})
try:
    agree(team, {"NumPy": np.__version__, "setting lr": 0.1 * (team.rank + 1)})
except TeamError as error:
    assert team.gather(str(error)) == [str(error)] * 2
    print(error)
"""
    status, out, err = together(2, program)
    assert (status, err) == (0, "")
    place = r"process 1 on .* has another {} than process 0 on .*: "
    warning, *errors = sorted(out.splitlines())
    assert re.fullmatch(place.format("BLAS kernel") + "1 and 0; the bits .*", warning)
    assert len(errors) == 2
    assert errors[0] == errors[1]
    assert re.fullmatch(place.format("setting lr") + r"0\.2 and 0\.1", errors[0])


INFO = """
import os, sys
if os.environ["PMI_RANK"] == "1":
    os.environ["OPENBLAS_CORETYPE"] = "Nehalem"
import xpnet.cli.info
from xpnet.cli import main
xpnet.cli.info.available = lambda: []
sys.exit(main(["info", *{flags}]))
"""


def test_info_describes_the_team_once() -> None:
    status, out, err = launch(2, INFO.format(flags=["--json"]), env={"OPENBLAS_CORETYPE": "Haswell"})
    assert status == 0
    found = json.loads(out)
    assert found["mpi"].startswith("MPICH ")
    assert found["team"]["launcher"] == "mpiexec"
    assert [each["BLAS kernel"] for each in found["team"]["processes"]] == ["Haswell", "Nehalem"]
    assert [each["number of BLAS threads"] for each in found["team"]["processes"]] == [1, 1]
    (warning,) = found["team"]["warnings"]
    assert "has another BLAS kernel than process 0" in warning
    assert err == ""
    status, out, err = launch(2, INFO.format(flags=[]), env={"OPENBLAS_CORETYPE": "Haswell"})
    assert (status, err) == (0, f"warning: {warning}; the bits of a result depend on which process computes it\n")
    assert re.search(r"^team +2 processes, started by mpiexec\n +process 0 on ", out, re.MULTILINE)
