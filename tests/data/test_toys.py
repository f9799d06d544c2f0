"""The toy sets: the same points everywhere, for one seed, and learnable to the limit that their noise sets."""

import hashlib

import numpy as np
import pytest

import xpnet
from xpnet.cli import main
from xpnet.data import SETS, load_data
from xpnet.data.toys import TOYS, draw

DIGESTS = {
    "moons": "46f5b1c4b91dc030",
    "spirals": "c2146dc9dbf22106",
    "xor": "aca4371535b7ac0e",
    "circles": "02d28004a387d446",
}
# What the default settings reach of the limits that toys.py states.
REACHED = {"moons": 0.955, "spirals": 0.96, "xor": 0.975, "circles": 0.97}


@pytest.mark.parametrize("name", TOYS)
def test_the_points_of_a_seed_are_always_the_same(name: str) -> None:
    points, labels = draw(name, 300)
    assert (points.shape, points.dtype, labels.dtype) == ((300, 2), np.float32, np.int32)
    assert hashlib.sha256(points.tobytes() + labels.tobytes()).hexdigest()[:16] == DIGESTS[name]
    k = len(SETS[name].classes)
    assert np.bincount(labels).tolist() == [300 // k] * k
    assert np.count_nonzero(labels[1:] == labels[:-1]) == pytest.approx(300 / k, abs=40), "the order is not random"
    assert not np.array_equal(draw(name, 300, seed=1)[0], points)


def test_negative_numbers_are_refused() -> None:
    for n, seed in ((-1, 0), (1, -1)):
        with pytest.raises(ValueError, match="must not be negative"):
            draw("moons", n, seed=seed)


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_a_named_set_that_the_default_settings_learn(name: str) -> None:
    data = load_data(name)
    assert data.test is not None
    assert (data.name, data.columns, data.task) == (name, ("x1", "x2"), "classification")
    assert (len(data.train), len(data.test)) == (SETS[name].n_train, SETS[name].n_test) == (2000, 1000)
    assert not set(map(tuple, data.train.images.tolist())) & set(map(tuple, data.test.images[:100].tolist()))
    result = xpnet.fit(xpnet.MLP((2, 128, data.n_classes)), data, device="cpu", progress=False)
    assert result.model.schema.features.kind == "standard"
    assert (result.history[-1].test_accuracy or 0) >= REACHED[name]
    linear = xpnet.fit(xpnet.MLP((2, data.n_classes)), data, device="cpu", progress=False)
    assert (linear.history[-1].test_accuracy or 0) <= REACHED[name] - 0.05, "no network is needed"


def test_a_toy_has_no_other_label() -> None:
    for how in ({"label": "x1"}, {"task": "regression"}):
        with pytest.raises(xpnet.DataError, match="moons is a set of points and their classes"):
            load_data("moons", **how)  # type: ignore[arg-type]


def test_the_test_points_of_a_toy_may_be_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("mine") / "mine.csv"
    path.write_text("x2,x1,label\n1.5,0,0\n-0.5,1,1\n", encoding="utf-8")
    data = load_data("moons", test=path)
    assert data.test is not None
    assert data.test.images.tolist() == [[0, 1.5], [1, -0.5]]


def test_data_show_draws_the_plane_and_prints_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "circles", "--index", "0", "5"]) == 0
    *plane, blank, heading, first, second, _ = capsys.readouterr().out.split("\n")
    assert (plane[-1], blank) == ("0 inner, 1 outer", "")
    assert len(plane) == 25
    middle, names = plane[11].strip(), [SETS["circles"].classes[i] for i in draw("circles", 2000)[1][[0, 5]]]
    assert (middle[0], middle[-1]) == ("1", "1")
    assert "0" in middle
    assert heading.split() == ["index", "x1", "x2", "label"]
    assert [first.split()[0], first.split()[-1], second.split()[0], second.split()[-1]] == [
        "0",
        names[0],
        "5",
        names[1],
    ]


def test_data_show_prints_as_many_columns_as_are_legible(
    own_directory: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with open("wide.csv", "w", encoding="utf-8") as file:
        file.write(",".join(f"feature\x1b[31m {i}" for i in range(20)) + ",label\n")
        file.writelines(",".join(f"{i + k / 7:.2f}" for k in range(20)) + f",[b]{i % 2}\n" for i in range(8))
    assert main(["data", "show", "wide.csv", "--count", "1"]) == 0
    captured = capsys.readouterr().out
    assert "\x1b" not in captured
    heading, row = captured.strip().splitlines()
    assert heading.split()[-3:] == ["17", "more", "label"]
    assert row.split() == ["0", "0", "0.14", "0.29", "[b]0"]
    assert main(["data", "show", "wide.csv", "--augment"]) == 2
