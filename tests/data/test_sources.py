"""Named sets: the search on disk, the proof by sums, and downloads from sources that fail in every way they can."""

import contextlib
import gzip
import hashlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet import files
from xpnet.data import SETS, DataError, digits, download, formats, load_data, locate, search, write_idx
from xpnet.data.sets import SetFile, SetInfo

network = import_module("xpnet.data.download")  # where `download` names the function

REAL_DATA = Path(os.environ.get("XPNET_DATA_DIR", "nowhere")).resolve()
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Run in an empty folder with an empty cache, so that nothing of the user's is found or written."""
    for name in ("XPNET_DATA_DIR", "XPNET_DATA_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(search, "_cache", lambda: tmp_path / "cache")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    caplog.set_level(logging.INFO, "xpnet")


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (11, 4, 4), dtype=np.uint8)
    labels = ((np.arange(11) + seed) % 10).astype(np.uint8)
    return dict(zip(NAMES, (images[:6], labels[:6], images[6:], labels[:5]), strict=True))


def lay(folder: Path, seed: int = 0, suffix: str = ".gz") -> Path:
    """Write the four files of a small set, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays(seed).items():
        write_idx(folder / f"{name}{suffix}", array)
    return folder


def small_set(*bases: str, seed: int = 0) -> SetInfo:
    """MNIST's record with the sums of a small set, to be had from bases."""
    files = tuple(
        SetFile(f"{name}.gz", tuple(f"{base}/{name}.gz" for base in bases), None, {"raw": formats.idx_sha256(array)})
        for name, array in arrays(seed).items()
    )
    return replace(SETS["mnist"], n_train=6, n_test=5, files=files)


Put = Callable[..., SetInfo]


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Put:
    """A function that puts a small set in MNIST's place."""

    def put(*bases: str, **changes: Any) -> SetInfo:
        info = replace(small_set(*bases), **changes)
        monkeypatch.setitem(SETS, "mnist", info)
        return info

    return put


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have digits drawn small and at once; returns the folders that they were to be cached in."""
    split = (np.zeros((3, 28, 28), np.uint8), np.arange(3, dtype=np.int32))
    folders: list[Path] = []

    def load_splits(folder: Path, _: object) -> tuple[Any, Any]:
        folders.append(folder)
        return split, split

    monkeypatch.setattr(digits, "load_splits", load_splits)
    return folders


# --- a server with every fault ---------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Serves files under /BEHAVIOUR/...; requests holds (path, Range header) of all that was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.wrong = files, gzip.compress(b"\0\0\x08\1\0\0\0\1x")
        self.requests: list[tuple[str, str | None]] = []
        self.asked, self.release = threading.Event(), threading.Event()

    def at(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behaviour}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        self.server.asked.set()
        behaviour, _, name = self.path.lstrip("/").partition("/")
        content = self.server.files[name.rpartition("/")[2]]
        first = sum(path == self.path for path, _ in self.server.requests) == 1
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        # A client that has given up closes its end.
        with contextlib.suppress(ConnectionError):
            if behaviour == "missing":
                self.send_error(404)
            elif behaviour == "full" and start:
                self.send_error(416)
            elif behaviour == "stall":
                self.server.release.wait()
            elif behaviour == "wrong":
                self.answer(self.server.wrong, 0)
            elif behaviour == "other-range" and start:
                self.answer(content, start, shift=1)
            elif behaviour == "no-range":
                self.answer(content, 0, cut=first)
            elif behaviour == "always-cut":
                self.answer(content, start, cut=True)
            elif behaviour == "regzip":
                self.answer(gzip.compress(gzip.decompress(content), 1, mtime=7), 0)
            else:
                if behaviour == "held":
                    self.server.release.wait()
                self.answer(content, start, cut=behaviour == "cut" and first)

    def answer(self, content: bytes, start: int, *, cut: bool = False, shift: int = 0) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        body = content[start + shift :]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = lay(tmp_path / "served")
    with Server({file.name: file.read_bytes() for file in folder.iterdir()}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def is_whole(folder: Path) -> bool:
    """Whether a folder holds the small set, all of it and nothing else."""
    return sorted(file.name for file in folder.iterdir()) == sorted(f"{name}.gz" for name in NAMES) and all(
        (formats.read_idx(folder / f"{name}.gz") == array).all() for name, array in arrays().items()
    )


# --- downloading -----------------------------------------------------------------------------------------------------


def test_download_then_load_without_asking_again(
    tmp_path: Path, server: Server, mnist: Put, caplog: pytest.LogCaptureFixture
) -> None:
    mnist(server.at("good"))
    calls: list[tuple[str, int, int]] = []
    data = load_data("mnist", progress=lambda *call: calls.append(call))
    assert (data.train.images == arrays()[NAMES[0]]).all()
    assert data.test is not None
    assert (len(data.train.labels), len(data.test.labels), data.n_classes, data.name) == (6, 5, 10, "mnist")
    assert data.source == str(tmp_path / "cache" / "mnist")
    assert is_whole(tmp_path / "cache" / "mnist")
    size = len(server.files[f"{NAMES[0]}.gz"])
    assert calls[0] == (f"{NAMES[0]}.gz", size, size)
    assert f"downloading {server.at('good')}" in caplog.text
    load_data("mnist", download=False)
    assert download("mnist") == tmp_path / "cache" / "mnist"
    assert len(server.requests) == 4


def test_a_cut_connection_is_resumed(
    tmp_path: Path, server: Server, mnist: Put, caplog: pytest.LogCaptureFixture
) -> None:
    mnist(server.at("cut"))
    assert is_whole(download("mnist"))
    halves = [len(server.files[f"{name}.gz"]) // 2 for name in NAMES]
    assert [wanted for _, wanted in server.requests] == [r for half in halves for r in (None, f"bytes={half}-")]
    assert "resuming" in caplog.text


@pytest.mark.parametrize("behaviour", ["no-range", "other-range", "full", "regzip", "good"])
def test_a_part_left_behind_ends_in_the_right_content(
    tmp_path: Path, server: Server, mnist: Put, behaviour: str
) -> None:
    mnist(server.at(behaviour))
    folder = tmp_path / "cache" / "mnist"
    folder.mkdir(parents=True)
    content = server.files[f"{NAMES[0]}.gz"]
    (folder / f"{NAMES[0]}.gz.part").write_bytes(content[:20] if behaviour in ("good", "regzip") else b"old" * 30)
    download("mnist")
    assert is_whole(folder)
    assert server.requests[0][1] is not None


def test_a_part_of_other_content_is_fetched_anew(tmp_path: Path, server: Server, mnist: Put) -> None:
    mnist(server.at("good"))
    folder = tmp_path / "cache" / "mnist"
    folder.mkdir(parents=True)
    (folder / f"{NAMES[0]}.gz.part").write_bytes(b"wrong beginning")
    download("mnist")
    assert is_whole(folder)
    assert [wanted for _, wanted in server.requests[:2]] == ["bytes=15-", None]


def test_a_complete_part_is_not_asked_for_again(tmp_path: Path, server: Server, mnist: Put) -> None:
    info = mnist(server.at("good"))
    content = server.files[f"{NAMES[0]}.gz"]
    mnist(server.at("good"), files=(replace(info.files[0], size=len(content)), *info.files[1:]))
    folder = tmp_path / "cache" / "mnist"
    folder.mkdir(parents=True)
    (folder / f"{NAMES[0]}.gz.part").write_bytes(content)
    download("mnist")
    assert is_whole(folder)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("bad", "says"),
    [("wrong", "wrong content (SHA-256 of the raw content is"), ("missing", "HTTP 404"), ("always-cut", "cut off")],
)
def test_the_next_source_is_tried(
    server: Server, mnist: Put, caplog: pytest.LogCaptureFixture, bad: str, says: str
) -> None:
    mnist(server.at(bad), server.at("good"))
    assert is_whole(download("mnist"))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 4
    assert says in warnings[0]
    assert warnings[0].endswith("trying the next source")


def test_all_sources_dead(tmp_path: Path, server: Server, mnist: Put) -> None:
    mnist(server.at("missing"), server.at("wrong"))
    with pytest.raises(
        DataError, match=rf"{NAMES[0]}.gz is not available from any source: .*404.*wrong content"
    ) as caught:
        load_data("mnist")
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 2
    assert not list((tmp_path / "cache" / "mnist").glob("*.gz*[!k]"))


def test_the_mirror_is_asked_first(server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist(server.at("good"))
    monkeypatch.setenv("XPNET_DATA_MIRROR", server.at("good/mirror/"))
    download("mnist")
    assert [path for path, _ in server.requests] == [f"/good/mirror/mnist/{name}.gz" for name in NAMES]


@pytest.mark.parametrize("address", ["somewhere", "file:///tmp", "ftp://127.0.0.1", "data:text/plain,"])
def test_a_mirror_that_is_no_address_of_http(
    server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    """urllib would open files, too."""
    mnist(server.at("good"))
    monkeypatch.setenv("XPNET_DATA_MIRROR", address)
    assert is_whole(download("mnist"))
    assert caplog.text.count("not an HTTP address") == 4


def test_a_source_that_sends_without_end(server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist(server.at("good"))
    monkeypatch.setattr(network, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="more than 10 bytes"):
        download("mnist")


def test_where_nothing_can_be_written(
    tmp_path: Path, server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mnist(server.at("good"))
    (tmp_path / "file").write_text("in the way")
    assert download("mnist", data_dir=tmp_path / "file") == tmp_path / "cache" / "mnist"
    assert f"cannot write in {tmp_path / 'file'} (" in caplog.text
    (tmp_path / "marked").mkdir(mode=0o555)
    monkeypatch.setenv("XPNET_DATA_DIR", str(tmp_path / "named"))
    assert download("mnist", data_dir=tmp_path / "marked") == tmp_path / "named" / "mnist"
    assert f"cannot write in {tmp_path / 'marked'} (" in caplog.text
    monkeypatch.setenv("XPNET_DATA_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(search, "_cache", lambda: tmp_path / "file" / "cache")
    with pytest.raises(DataError, match=r"cannot write in any of .*\$XPNET_DATA_DIR"):
        download("mnist")


def test_a_set_that_is_there_is_not_downloaded(
    tmp_path: Path, server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist(server.at("good"))
    lay(tmp_path / "mine" / "MNIST" / "raw")
    monkeypatch.setenv("XPNET_DATA_DIR", str(tmp_path / "mine"))
    assert download("mnist") == tmp_path / "mine" / "MNIST" / "raw"
    assert not server.requests
    assert download("mnist", data_dir=tmp_path / "other") == tmp_path / "other" / "mnist"
    assert is_whole(tmp_path / "other" / "mnist")


def test_download_refuses_a_wrong_file_that_is_there(tmp_path: Path, server: Server, mnist: Put) -> None:
    mnist(server.at("good"))
    lay(tmp_path / "cache" / "mnist", seed=5)
    with pytest.raises(DataError, match=r"train-images.*: not the train images of mnist: the SHA-256.*delete it"):
        download("mnist")
    with pytest.raises(DataError, match="drawn by xpnet itself"):
        download("digits")


# --- being offline ---------------------------------------------------------------------------------------------------


def waits(message: str) -> list[float]:
    return [float(wait) for wait in re.findall(r"no answer within ([\d.]+) s", message)]


def test_refused_connections(mnist: Put, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    mnist(address, address)
    with pytest.raises(DataError, match=r"no network: put its files in data/mnist, or name the folder"):
        load_data("mnist")
    assert caplog.text.lower().count("refused") == 2


def test_silent_sources_share_one_deadline(
    server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(network, "OFFLINE_SECONDS", 0.9)
    mnist(*[server.at("stall")] * 3)
    with pytest.raises(DataError, match="no network"):
        load_data("mnist")
    assert len(waits(caplog.text)) == 3
    assert sum(waits(caplog.text)) <= 0.95
    assert min(waits(caplog.text)) > 0
    assert {path for path, _ in server.requests} == {f"/stall/{NAMES[0]}.gz"}


def test_a_slow_name_look_up_counts_too(
    server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked_up = threading.Event()

    def slow_getaddrinfo(*_: object, **__: object) -> None:
        looked_up.wait()
        raise socket.gaierror("too late")

    monkeypatch.setattr(network, "OFFLINE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", slow_getaddrinfo)
    mnist(server.at("good"), server.at("good"))
    try:
        with pytest.raises(DataError, match="no network"):
            load_data("mnist")
    finally:
        looked_up.set()
    assert len(waits(caplog.text)) == 2
    assert server.requests == []


def test_once_answered_a_silent_source_is_given_its_own_time(
    server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(network, "OFFLINE_SECONDS", 2.0)
    monkeypatch.setattr(network, "ANSWER_SECONDS", 0.2)
    mnist(server.at("missing"), server.at("stall"), server.at("good"))
    assert is_whole(download("mnist"))
    assert waits(caplog.text) == [0.2] * 4


def test_an_answer_that_comes_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    late, closed = threading.Event(), threading.Event()

    class Response:
        close = closed.set

    def ask(answer: Future[Any], url: str, start: int) -> None:
        late.wait()
        answer.set_result(Response)

    monkeypatch.setattr(network, "OFFLINE_SECONDS", 0.05)
    monkeypatch.setattr(network, "_ask", ask)
    with pytest.raises(network._SourceError, match="no answer"):
        network._Network(None).open("http://127.0.0.1/", 0)
    late.set()
    assert closed.wait(30)


def test_waiting_for_another_process_does_not_count_as_being_offline(
    tmp_path: Path, server: Server, mnist: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist(server.at("good"))
    clock = [0.0]
    monkeypatch.setattr(network.time, "monotonic", lambda: clock[0])
    locks = iter([False, True])

    def try_lock(_descriptor: int) -> bool:
        clock[0] += 1000
        return next(locks)

    monkeypatch.setattr(files.locks, "try_lock", try_lock)
    assert is_whole(download("mnist"))


# --- two processes ---------------------------------------------------------------------------------------------------

CHILD = """
import json, logging, sys
from dataclasses import replace
from pathlib import Path
from xpnet.data import SETS, download
from xpnet.data.sets import SetFile
logging.basicConfig(level=logging.INFO, format="%(message)s")
files = tuple(SetFile(name, tuple(urls), None, sums) for name, urls, sums in json.loads(sys.argv[1]))
SETS["mnist"] = replace(SETS["mnist"], files=files)
download("mnist", data_dir=sys.argv[2])
"""


@contextlib.contextmanager
def child(info: SetInfo, data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    files = json.dumps([(file.name, file.urls, file.sums) for file in info.files])
    environment = os.environ | {"PYTHONPATH": str(Path(search.__file__).parents[2])}
    arguments = [sys.executable, "-c", CHILD, files, str(data_dir)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_processes_at_once_make_one_good_copy(tmp_path: Path, server: Server) -> None:
    info = small_set(server.at("held"))
    with child(info, tmp_path) as first:
        server.asked.wait()
        with child(info, tmp_path) as second:
            assert second.stderr is not None
            assert any(f"waiting for process {first.pid} on " in line for line in second.stderr)
            server.release.set()
            assert (first.wait(), second.wait()) == (0, 0)
    assert is_whole(tmp_path / "mnist")
    assert len(server.requests) == 4


def test_a_killed_process_leaves_no_lock(tmp_path: Path, server: Server, mnist: Put) -> None:
    info = mnist(server.at("held"))
    with child(info, tmp_path) as process:
        server.asked.wait()
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        process.wait()
    server.release.set()
    assert is_whole(download("mnist", data_dir=tmp_path))


# --- searching -------------------------------------------------------------------------------------------------------


def test_order_of_search(tmp_path: Path, mnist: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist()
    monkeypatch.setenv("XPNET_DATA_DIR", str(tmp_path / "environment"))
    places = [tmp_path / "given", tmp_path / "environment", Path("data"), tmp_path / "cache"]
    for place in reversed(places):
        lay(place / "mnist")
        assert locate("mnist", tmp_path / "given") == place / "mnist"
        assert load_data("mnist", data_dir=tmp_path / "given").source == str(place / "mnist")
    assert locate("mnist") == places[1] / "mnist"
    assert locate("digits") is None


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("layout", ["mnist", "MNIST/raw", "."])
def test_layouts(tmp_path: Path, mnist: Put, layout: str, suffix: str) -> None:
    mnist()
    lay(tmp_path / "place" / layout, suffix=suffix)
    assert locate("mnist", tmp_path / "place") == tmp_path / "place" / layout
    assert load_data("mnist", data_dir=tmp_path / "place").train.labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_files_without_a_folder_of_their_own_belong_to_the_set_that_their_sums_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("fashion-mnist", 1), ("kmnist", 2)):
        folder = lay(tmp_path / name, seed)
        files = tuple(
            replace(file, sums={"sha256": hashlib.sha256((folder / file.name).read_bytes()).hexdigest()})
            for file in small_set(seed=seed).files
        )
        monkeypatch.setitem(SETS, name, replace(SETS[name], n_train=6, n_test=5, files=files))
    write_idx(tmp_path / "kmnist" / f"{NAMES[1]}.gz", arrays(2)[NAMES[1]][::-1])
    assert locate("fashion-mnist", tmp_path / "fashion-mnist") == tmp_path / "fashion-mnist"
    assert locate("kmnist", tmp_path / "fashion-mnist") is None
    assert locate("kmnist", tmp_path / "kmnist") is None
    assert locate("mnist", tmp_path / "fashion-mnist") is None


def test_a_set_with_a_file_missing_is_passed_over_with_a_word(
    tmp_path: Path, mnist: Put, caplog: pytest.LogCaptureFixture
) -> None:
    mnist()
    lay(tmp_path / "mnist")
    (tmp_path / "mnist" / f"{NAMES[3]}.gz").unlink()
    assert locate("mnist", tmp_path) is None
    assert f"{tmp_path / 'mnist'}: only 3 of the four files of mnist" in caplog.text


@pytest.mark.parametrize("folder", ["mnist", "."])
def test_keras_npz(tmp_path: Path, mnist: Put, folder: str) -> None:
    mnist()
    keys: dict[str, Any] = dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays().values(), strict=True))
    (tmp_path / folder).mkdir(exist_ok=True)
    path = tmp_path / folder / "mnist.npz"
    np.savez(path, **keys)
    assert locate("mnist", tmp_path) == path
    test = load_data("mnist", data_dir=tmp_path).test
    assert test is not None
    assert (test.images == arrays()[NAMES[2]]).all()
    np.savez(path, **(keys | {"x_test": keys["x_test"] ^ 1}))
    with pytest.raises(DataError, match=rf"{path}: not the test images of mnist"):
        load_data("mnist", data_dir=tmp_path)


def test_a_pickle_of_mnist_is_used_and_said_to_be_unproven(
    tmp_path: Path, mnist: Put, caplog: pytest.LogCaptureFixture
) -> None:
    import pickle

    mnist()
    images, labels, *test = arrays().values()
    pairs = [(images[:4] / 256, labels[:4]), (images[4:] / 256, labels[4:]), (test[0] / 256, test[1])]
    (tmp_path / "mnist.pkl.gz").write_bytes(gzip.compress(pickle.dumps(pairs)))
    data = load_data("mnist", data_dir=tmp_path)
    assert data.validation is not None
    assert data.name == "mnist"
    assert "not verified" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        {"training_images": np.zeros((4, 9)), "training_labels": np.arange(4)},
        {"train_img": np.ones((4, 9)), "train_label": [0, 1, 0, 1], "test_img": np.ones((2, 9)), "test_label": [0, 1]},
        [(np.zeros((4, 9)), np.arange(4))] * 3,
        {"words": "words"},
        b"words",
    ],
)
def test_auto_passes_over_a_pickle_of_another_kind(
    tmp_path: Path, mnist: Put, caplog: pytest.LogCaptureFixture, content: object
) -> None:
    import pickle

    mnist()
    Path("data").mkdir()
    path = Path("data/mnist.pkl")
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    lay(tmp_path / "cache" / "mnist")
    assert load_data().source == str(tmp_path / "cache" / "mnist")
    assert f"passing over what is no MNIST: {path}: " in caplog.text
    with pytest.raises(DataError, match=r"^data.mnist\.pkl: "):
        load_data("mnist")


def test_parts_of_a_named_set_may_be_files(tmp_path: Path, mnist: Put) -> None:
    mnist()
    lay(tmp_path / "cache" / "mnist")
    np.savez(tmp_path / "mine.npz", x=arrays(3)[NAMES[0]], y=np.arange(6) % 3)
    data = load_data("mnist", test=tmp_path / "mine.npz", validation=tmp_path / "cache" / "mnist", scale="standard")
    assert data.test is not None
    assert data.validation is not None
    assert (data.name, len(data.test), len(data.validation), data.scale) == ("mnist", 6, 6, "standard")
    assert data.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    for how in ({"label": "y"}, {"task": "regression"}):
        with pytest.raises(DataError, match="mnist is a set of images and their classes"):
            load_data("mnist", **how)  # type: ignore[arg-type]


def test_a_pickle_of_two_parts_is_verified(tmp_path: Path, mnist: Put) -> None:
    import pickle

    mnist()
    keys = dict(zip(("train_img", "train_label", "test_img", "test_label"), arrays().values(), strict=True))
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps(keys))
    data = load_data("mnist", data_dir=tmp_path)
    assert (data.train.images == arrays()[NAMES[0]]).all()
    path.write_bytes(pickle.dumps(keys | {"train_img": keys["train_img"] ^ 1}))
    with pytest.raises(DataError, match=rf"{path}: not the train images of mnist"):
        load_data("mnist", data_dir=tmp_path)
    path.write_bytes(pickle.dumps(dict(list(keys.items())[:2])))
    with pytest.raises(DataError, match=rf"{path}: holds no test split, so it is not mnist"):
        load_data("mnist", data_dir=tmp_path)


def test_a_wrong_sum_says_file_sums_and_remedy(tmp_path: Path, mnist: Put) -> None:
    info = mnist()
    lay(tmp_path / "mnist")
    lay(tmp_path / "cache" / "mnist")
    bad = arrays()[NAMES[2]].copy()
    bad[0, 0, 0] ^= 1
    path = tmp_path / "mnist" / f"{NAMES[2]}.gz"
    write_idx(path, bad)
    with pytest.raises(DataError) as caught:
        load_data("mnist", data_dir=tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not the test images of mnist: the SHA-256 of the raw content is ")
    assert all(words in message for words in (formats.idx_sha256(bad), info.files[2].sums["raw"], "delete it", "path"))
    test = load_data(tmp_path / "mnist").test
    assert test is not None
    assert (test.images == bad).all()
    with pytest.raises(DataError, match="not the test images of mnist"):
        load_data("auto", data_dir=tmp_path)


def test_a_wrong_number_of_images(tmp_path: Path, mnist: Put) -> None:
    mnist(n_train=7)
    lay(tmp_path / "mnist")
    with pytest.raises(DataError, match="6 train images, but mnist has 7"):
        load_data("mnist", data_dir=tmp_path)


def test_a_named_place_that_is_not_there(
    tmp_path: Path, mnist: Put, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mnist()
    lay(tmp_path / "cache" / "mnist")
    monkeypatch.setenv("XPNET_DATA_DIR", "typo")
    load_data("mnist", data_dir=tmp_path / "gone")
    assert f"data_dir names {tmp_path / 'gone'}, which is not a folder" in caplog.text
    assert "$XPNET_DATA_DIR names typo, which is not a folder" in caplog.text


def test_downloading_switched_off(mnist: Put) -> None:
    mnist()
    with pytest.raises(DataError, match=r"mnist is in none of .*cache, and downloading is switched off"):
        load_data("mnist", download=False)


# --- EMNIST's zip ----------------------------------------------------------------------------------------------------


def emnist_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("digits", "letters"):
            for name, array in arrays().items():
                write_idx(path.with_name("member.gz"), array + (name.find("labels") > 0 and part == "letters"))
                name = f"gzip/emnist-{part}-{name.replace('t10k', 'test')}.gz"  # noqa: PLW2901
                archive.write(path.with_name("member.gz"), name)
    return path.read_bytes()


def test_emnist_is_downloaded_once_and_read_from_its_zip(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = server.files["gzip.zip"] = emnist_zip(tmp_path / "made.zip")
    zipped = SetFile(
        "gzip.zip",
        (server.at("good/gzip.zip"),),
        len(content),
        {"sha256": "0" * 64, "md5": hashlib.md5(content).hexdigest()},
    )
    for name in ("emnist-digits", "emnist-letters", "emnist-balanced"):
        monkeypatch.setitem(SETS, name, replace(SETS[name], n_train=6, n_test=5, files=(zipped,)))
    for name, n_classes in (("emnist-digits", 10), ("emnist-letters", 26)):
        data = load_data(name)
        assert (data.train.images == arrays()[NAMES[0]].transpose(0, 2, 1)).all()
        assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
        assert (data.n_classes, data.source) == (n_classes, str(tmp_path / "cache" / "emnist" / "gzip.zip"))
    assert len(server.requests) == 1
    with pytest.raises(DataError, match="does not hold the four files of emnist-balanced"):
        load_data("emnist-balanced")
    (tmp_path / "cache" / "emnist" / "gzip.zip").write_bytes(content[:-40])
    with pytest.raises(DataError, match="damaged zip archive"):
        load_data("emnist-digits")


# --- names and paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mnits", "did you mean 'mnist'"),
        ("fashion_mnist", "'fashion-mnist'"),
        ("KMNIST", "'kmnist'"),
        ("", "unknown data ''"),
    ],
)
def test_unknown_names(name: str, says: str) -> None:
    for call in (load_data, locate, download):
        with pytest.raises(DataError, match=says) as caught:
            call(name)
        assert "xpnet data list" in str(caught.value)


def test_what_is_taken_for_a_path(tmp_path: Path, mnist: Put) -> None:
    mnist()
    lay(Path("own"))
    assert load_data("own").name == "own"
    assert load_data(Path("own")).source == str(Path("own").resolve())
    for path in ("no/where", "none.npz", "none.npy", "none.mat", "none.pkl.gz", "none.csv", "train-images-idx3-ubyte"):
        with pytest.raises(DataError, match="no such file or folder"):
            load_data(path)


def test_a_name_is_a_name_even_if_a_folder_is_called_so(tmp_path: Path, mnist: Put) -> None:
    mnist()
    lay(Path("mnist"), seed=9)
    lay(tmp_path / "cache" / "mnist")
    assert load_data("mnist").source == str(tmp_path / "cache" / "mnist")
    assert load_data("./mnist").source == str(Path("mnist").resolve())


def test_digits_are_cached_with_the_user_alone(
    tmp_path: Path, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XPNET_DATA_DIR", str(tmp_path))
    data = load_data("digits", data_dir=tmp_path)
    assert drawn == [tmp_path / "cache" / "digits"]
    assert (data.name, data.source, data.n_classes, len(data.train.labels)) == ("digits", "drawn by xpnet", 10, 3)


def test_auto_is_mnist_where_it_can_be_had(server: Server, mnist: Put, drawn: list[Path]) -> None:
    mnist(server.at("good"))
    assert load_data().name == "mnist"


def test_auto_says_in_three_lines_that_it_takes_digits(
    server: Server, mnist: Put, drawn: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    mnist(server.at("missing"))
    for allowed, reason in ((True, "HTTP 404"), (False, "switched off")):
        assert load_data(download=allowed).name == "digits"
        (*_, last) = (record for record in caplog.records if record.levelname == "WARNING")
        why, instead, remedy = last.getMessage().splitlines()
        assert reason in why
        assert "Using `digits` instead" in instead
        assert "--data-dir" in remedy


def test_the_records_are_consistent() -> None:
    assert list(SETS) == [info.name for info in SETS.values()]
    assert {"mnist", "fashion-mnist", "kmnist", "qmnist", "digits", "emnist-digits", "emnist-letters"} <= set(SETS)
    counts = {"emnist-letters": 26, "emnist-balanced": 47, "emnist-bymerge": 47, "emnist-byclass": 62}
    counts |= {"moons": 2, "spirals": 3, "xor": 2, "circles": 2}
    for info in SETS.values():
        assert info.n_classes == counts.get(info.name, 10)
        assert len(set(info.classes)) == info.n_classes
        for file in info.files:
            assert all(url.endswith(f"/{file.name}") and url.startswith("http") for url in file.urls)
            assert all(len(value) == (32 if kind == "md5" else 64) for kind, value in file.sums.items())


# --- the real thing --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not (REAL_DATA / "mnist").is_dir(), reason="MNIST is not at hand: XPNET_DATA_DIR has no folder mnist"
)
def test_real_mnist() -> None:
    data = load_data("mnist", data_dir=REAL_DATA, download=False)
    assert data.test is not None
    assert data.train.images.shape == (60_000, 28, 28)
    assert data.test.images.shape == (10_000, 28, 28)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert round(float(data.train.images.mean() / 255), 4) == 0.1307
    assert np.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    for file, array in zip(SETS["mnist"].files, [*data.train, *data.test], strict=True):
        assert formats.idx_sha256(array.astype(np.uint8)) == file.sums["raw"]
