"""Pickles: what they hold is read, and nothing in them is executed."""

import gzip
import os
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.examples import Pair, refused, small
from tests.fuzz.readers import python2_pickle
from xpnet.data import DataError, read, read_pickle
from xpnet.data.formats import pickles


def theano_pairs(dtype: type[np.floating] = np.float32) -> tuple[Pair, ...]:
    rng = np.random.default_rng(0)
    return tuple((rng.random((n, 16)).astype(dtype), np.arange(n) % 4) for n in (8, 5, 4))


@pytest.mark.parametrize("suffix", [".pkl", ".pkl.gz"])
@pytest.mark.parametrize("protocol", ["python2", "numpy.core", *range(6)])
def test_pickle_of_any_protocol(tmp_path: Path, suffix: str, protocol: str | int) -> None:
    pairs = theano_pairs()
    if protocol == "python2":
        content = python2_pickle(pairs)
    elif protocol == "numpy.core":
        content = pickle.dumps(pairs, 2).replace(b"numpy._core", b"numpy.core")
        assert b"numpy._core" not in content
    else:
        assert isinstance(protocol, int)
        content = pickle.dumps(pairs, protocol)
    path = tmp_path / f"mnist{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    splits = read_pickle(path)
    assert list(splits) == ["train", "validation", "test"]
    for split, (images, labels) in zip(splits.values(), pairs, strict=True):
        assert (split.images.reshape(-1, 16) == images).all()
        assert split.images.dtype == np.float32
        assert split.labels.tolist() == labels.tolist()
    data = read(path)
    assert [len(part.labels) for part in (data.train, data.validation, data.test) if part] == [8, 5, 4]


class Asks:
    """Pickles as a call of whatever it is given."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (Asks(os.system, "touch {canary}"), "system"),
        (Asks(eval, "open('{canary}', 'w')"), "eval"),
        (Asks(exec, "open('{canary}', 'w')"), "exec"),
        (Asks(np.load, "{canary}"), "load"),
        (Asks(np.fromfile, "{canary}"), "fromfile"),
        (Asks(getattr, np, "load"), "getattr"),
        (Asks(Path, "{canary}"), "Path"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_are_refused_by_the_name_of_what_they_ask(
    tmp_path: Path, payload: Asks, named: str, protocol: int
) -> None:
    canary = tmp_path / "canary"
    function, arguments = payload.call
    arguments = tuple(a.format(canary=canary) if isinstance(a, str) else "numpy" for a in arguments)
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps((*theano_pairs()[:2], (Asks(function, *arguments), 0)), protocol))
    message = refused(read, path)
    assert "it asks for" in message
    assert named in message
    assert not canary.exists()


def test_a_global_by_dotted_name_or_extension_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\4\x8c\x05numpy\x8c\x0ef2py.os.system\x93.")
    assert "numpy.f2py.os.system" in refused(read_pickle, path)
    path.write_bytes(b"\x80\2\x82\1.")
    assert "it has the opcode 0x82" in refused(read_pickle, path)


X, Y = small(12, (8, 8))
ROWS = X.reshape(12, -1)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({"train_img": ROWS, "train_label": Y, "test_img": ROWS, "test_label": Y}, ["train", "test"]),
        ({"training_images": ROWS, "training_labels": Y, "test_images": X, "test_labels": Y}, ["train", "test"]),
        ({"data": ROWS, "labels": Y.tolist(), "filenames": ["a.png"] * 12, "batch_label": "one of two"}, ["train"]),
        ({b"data": ROWS, b"labels": Y.tolist(), b"batch_label": b"one of two"}, ["train"]),
        ({"data": X, "target": list(Y), "frame": None, "DESCR": "some digits"}, ["train"]),
        ({"train": {"X": X, "y": Y}, "valid": {"X": X, "y": Y}}, ["train", "validation"]),
        ({"train": (X, Y), "test": [X, Y.tolist()]}, ["train", "test"]),
        ({"images": list(X), "labels": list(Y)}, ["train"]),
        (OrderedDict(features=X, targets=Y, sizes=[(8, 8)] * 12), ["train"]),
        ({"images": X.tolist(), "labels": Y[:, None].tolist()}, ["train"]),
        ({"X": X, "y": Y.astype(float).tolist()}, ["train"]),
        ((X, Y), ["train"]),
        ((Y, X), ["train"]),
        ([ROWS.tolist(), Y.tolist()], ["train"]),
        (((ROWS, Y), (ROWS, Y)), ["train", "test"]),
        ([[X, Y], [X, Y.tolist()], (X, Y)], ["train", "validation", "test"]),
        ((X, X, Y, Y), ["train", "test"]),
        ((X, Y, X, Y), ["train", "test"]),
        ([(image, int(label)) for image, label in zip(X, Y, strict=True)], ["train"]),
        ([[image, np.eye(3)[label]] for image, label in zip(X, Y, strict=True)], ["train"]),
    ],
)
def test_forms_of_pickles(tmp_path: Path, value: object, parts: list[str], protocol: int) -> None:
    path = tmp_path / "own.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert list(read_pickle(path)) == parts
    data = read(path)
    assert (data.train.images == X).all()
    assert data.train.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    "form", [lambda y: y, lambda y: y.astype(object), lambda y: y.astype("S"), np.ndarray.tolist, list]
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_labels_of_text(tmp_path: Path, form: Callable[[np.ndarray], Any], protocol: int) -> None:
    labels = np.array(["cat", "dog", "emu"])[Y]
    (tmp_path / "own.pkl").write_bytes(pickle.dumps({"X": X, "y": form(labels)}, protocol))
    data = read(tmp_path / "own.pkl")
    assert data.classes == ("cat", "dog", "emu")
    assert data.train.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1, "one to three (images, labels) pairs"),
        ([], "one to three (images, labels) pairs"),
        ([(X, Y)] * 4, "one to three (images, labels) pairs"),
        ([(1, 2)] * 3, "one to three (images, labels) pairs"),
        ({"a": X, "b": Y}, "holds the arrays a (12, 8, 8), b (12,): name a pair x, y"),
        ({"X": X, "y": [1, "a", None]}, "holds the arrays X (12, 8, 8): name a pair"),
        ({"X": X, "y": [[1], [1, 2]]}, "holds the arrays X (12, 8, 8): name a pair"),
        ({"X": X, "y": [10**30] * 12}, "holds the arrays X (12, 8, 8): name a pair"),
        ({1: X, 2: Y}, "a dictionary has a key of type int; text is needed"),
        ({("X",): X}, "a dictionary has a key of type tuple; text is needed"),
        ([(np.zeros((2, 4)), np.array([{}, None]))] * 3, "one to three"),
        ([(np.zeros((2, 4), [("a", "f4")]), np.zeros(2))] * 3, "not an array of numbers or text"),
        ([(np.zeros((2, 4), complex), np.zeros(2))] * 3, "an array of c16 is not an array of numbers or text"),
        ([(np.zeros((2, 4)), np.zeros(3, int))] * 3, "2 examples but 3 labels"),
        ((X, ["a"] * 11 + ["\ud800"]), "labels that are not Unicode text"),
    ],
)
def test_pickles_of_another_form(tmp_path: Path, value: object, says: str) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(value, 2))
    assert says in refused(read, path)


@pytest.mark.parametrize("name", ["sklearn.utils._bunch.Bunch", "pandas.core.frame.DataFrame", "torch._utils._rebuild"])
def test_objects_of_others_are_refused_with_advice(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.pkl"
    module, _, kind = name.rpartition(".")
    path.write_bytes(b"\x80\2c" + module.encode() + b"\n" + kind.encode() + b"\n)\x81.")
    message = refused(read, path)
    assert f"it asks for {name}, but only NumPy arrays are allowed; save them by np.savez(path, X=X, y=y)" in message


def test_a_pickle_may_not_change_the_reader_itself(tmp_path: Path) -> None:
    """Python's own unpickler would set attributes of a class, such as the stand-in for encoded bytes."""
    for target in ("c_codecs\nencode\n", "cnumpy.core.numeric\n_frombuffer\n", "cnumpy\nndarray\n"):
        path = tmp_path / "x.pkl"
        path.write_bytes(b"\x80\2" + target.encode() + b"N}U\x05textsK\1s\x86b.")
        assert "only arrays have a state" in refused(read_pickle, path)
    assert not hasattr(pickles._Latin1, "texts")
    assert not hasattr(pickles._from_buffer, "texts")


def test_dictionaries_that_hold_themselves_or_each_other(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop += [loop, loop]
    knot: dict[str, Any] = {"X": X, "y": Y, "l": loop}
    knot |= {f"k{i}": knot for i in range(50)}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(knot, 4))
    assert len(read(path)) == 12


@pytest.mark.parametrize(
    ("numbers", "says"),
    [([[0] * 800] * 800, "its lists hold too many numbers"), ([X[0]] * 5000, "its lists of arrays claim more bytes")],
)
def test_lists_that_refer_to_the_same_a_thousand_times(tmp_path: Path, numbers: list[Any], says: str) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"X": numbers, "y": [1, 2]}, 4))
    assert says in refused(read, path)


def test_arrays_that_share_their_bytes(tmp_path: Path) -> None:
    """An array may claim no more than the file has for it."""
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R(K\1(M\xe8\x03K\1tcnumpy\ndtype\n"
    head += b"X\2\0\0\0u1\x85R\x89"
    content = b"B\xe8\x03\0\0" + bytes(1000)
    path = tmp_path / "x.pkl"
    named = [b"X\1\0\0\0" + name + head + b"h\0tb" for name in (b"X", b"y", b"z")]
    path.write_bytes(b"\x80\3" + content + b"q\0}(" + b"".join(named) + b"u.")
    assert "its arrays claim more bytes than it has" in refused(read, path)


def test_too_many_opcodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pkl"
    content = pickle.dumps({"X": np.zeros((30_000, 2)), "y": [0, 1] * 15_000})
    path.write_bytes(content)
    assert len(read(path)) == 30_000
    path.write_bytes(gzip.compress(content))  # far smaller than a file of so many examples is
    assert "it is too long, but only NumPy arrays are allowed" in refused(read, path)
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    path.write_bytes(content)
    assert "it is too long, but only NumPy arrays are allowed" in refused(read, path)


@given(
    images=hnp.arrays(st.sampled_from(["u1", ">i2", "<f4"]), (5, 3)),
    labels=st.lists(st.sampled_from([0, 3, 70_000]), min_size=5, max_size=5),
    protocol=st.integers(0, 5),
    form=st.sampled_from([list, np.array, lambda labels: [np.int64(label) for label in labels]]),
)
def test_pickle_round_trip(
    tmp_path: Path, images: np.ndarray, labels: list[int], protocol: int, form: Callable[[list[int]], Any]
) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"images": images, "labels": form(labels)}, protocol))
    split = read_pickle(path)["train"]
    assert split.images.tobytes() == images.astype(images.dtype.newbyteorder("=")).tobytes()
    assert split.labels.tolist() == labels


def test_a_pickle_with_a_giant_memo_index_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "giant.pkl"
    path.write_bytes(b"\x80\2K\1r\xff\xff\xff\xff.")
    assert "pairs" in refused(read_pickle, path)


def test_pickle_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_BYTES", 1000)
    path = tmp_path / "bomb.pkl.gz"
    path.write_bytes(gzip.compress(bytes(100_000)))
    assert "unpacks to more than 1000 bytes" in refused(read_pickle, path)


@given(data=st.data())
def test_damaged_pickles_give_data_errors_only(tmp_path: Path, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from([theano_pairs(), {"X": X, "y": Y.tolist(), "z": [X[0]] * 8}]))
    whole = pickle.dumps(value, data.draw(st.sampled_from([2, 4])))
    starts = [position for _, _, position in pickletools.genops(whole) if position is not None]
    at = data.draw(st.one_of(st.sampled_from(starts), st.integers(0, len(whole))))
    content = data.draw(st.binary(max_size=6))
    for damaged in (
        content,
        whole[:at],
        whole[:at] + content + whole[at + len(content) :],
        whole[:at] + content + b".",
    ):
        path = tmp_path / "damaged.pkl"
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
