"""The data sets that have a name: their classes, licences, sources and checksums."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xpnet.errors import DataError, one_line
from xpnet.files import open_regular

from .formats import idx_sha256, read_idx
from .toys import COLUMNS, TOYS

__all__ = ["SETS", "SetFile", "SetInfo", "class_names", "shown_names"]


@dataclass(frozen=True)
class SetFile:
    """One file of a set as it is downloaded.

    name : file name.   urls : its sources, in the order in which they are tried.   size : bytes, None if not known.
    sums : algorithm -> hexadecimal sum; "raw" is the SHA-256 of the unpacked content, "sha256" and "md5" are those of
        the file as it is. One that matches is enough.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None
    sums: Mapping[str, str]

    def fault(self, path: Path) -> str | None:
        """The fault of this file's content at a path, in words; None if one of its sums agrees.

        Raises OSError.
        """
        faults = []
        for algorithm, expected in self.sums.items():
            if algorithm == "raw":
                try:
                    found = idx_sha256(read_idx(path))
                except DataError as error:
                    return str(error)
            else:
                with open_regular(path) as content:
                    use = partial(hashlib.new, algorithm, usedforsecurity=False)
                    found = hashlib.file_digest(content, use).hexdigest()
            if found == expected:
                return None
            name = {"raw": "SHA-256 of the raw content", "sha256": "SHA-256", "md5": "MD5"}[algorithm]
            faults.append(f"{name} is {found}, expected {expected}")
        return "; ".join(faults)


@dataclass(frozen=True)
class SetInfo:
    """A named set.

    name, title : its short name, and a description.   classes : the name of each class, in the order of the labels.
    n_train, n_test : numbers of examples.   licence : as its authors state it.
    folder, torchvision : folders that it is kept in, by xpnet and by torchvision.
    prefix : what the names of its IDX files begin with.   archives : names of single files that hold all of it.
    files : to download; () if xpnet draws the set itself.   columns : names of its features; () for images.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    n_train: int
    n_test: int
    licence: str
    folder: str
    torchvision: str = ""
    prefix: str = ""
    archives: tuple[str, ...] = ()
    files: tuple[SetFile, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def examples(self) -> str:
        """What its examples are, in a word."""
        return "points" if self.columns else "images"

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


_DIGITS = tuple("0123456789")
_UPPER = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER = tuple("abcdefghijklmnopqrstuvwxyz")
_MERGED = (*_DIGITS, *_UPPER, *"abdefghnqrt")


def _files(bases: tuple[str, ...], *rows: str) -> tuple[SetFile, ...]:
    """Files that every base has; a row is a name without .gz, bytes or -, and the algorithm and value of its sum."""
    files = []
    for name, size, algorithm, value in map(str.split, rows):
        urls = tuple(f"{base}{name}.gz" for base in bases)
        files.append(SetFile(f"{name}.gz", urls, None if size == "-" else int(size), {algorithm: value}))
    return tuple(files)


_MNIST = SetInfo(
    "mnist",
    "MNIST: handwritten digits",
    _DIGITS,
    60_000,
    10_000,
    "CC BY-SA 3.0 according to Keras; the authors state none",
    "mnist",
    "MNIST",
    archives=("mnist.npz", "mnist.pkl.gz", "mnist.pkl"),
    files=_files(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
        "train-images-idx3-ubyte 9912422 raw ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte 28881 raw 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte 1648877 raw 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte 4542 raw ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

_FASHION = SetInfo(
    "fashion-mnist",
    "Fashion-MNIST: articles of clothing",
    ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    60_000,
    10_000,
    "MIT",
    "fashion-mnist",
    "FashionMNIST",
    files=_files(
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        "train-images-idx3-ubyte 26421880 sha256 3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte 29515 raw bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte 4422102 sha256 346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte 5148 raw 0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

_KMNIST = SetInfo(
    "kmnist",
    "Kuzushiji-MNIST: cursive Japanese characters",
    ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    60_000,
    10_000,
    "CC BY-SA 4.0",
    "kmnist",
    "KMNIST",
    files=_files(
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        "train-images-idx3-ubyte 18165135 sha256 51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "train-labels-idx1-ubyte 29497 sha256 e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "t10k-images-idx3-ubyte 3041136 sha256 edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "t10k-labels-idx1-ubyte 5120 sha256 20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)

_QMNIST = SetInfo(
    "qmnist",
    "QMNIST: MNIST with its lost test images, 60,000 in all",
    _DIGITS,
    60_000,
    60_000,
    "BSD 3-clause (software); the data as MNIST",
    "qmnist",
    "QMNIST",
    "qmnist-",
    files=_files(
        ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
        "qmnist-train-images-idx3-ubyte - md5 ed72d4157d28c017586c42bc6afe6370",
        "qmnist-train-labels-idx2-int - md5 0058f8dd561b90ffdd0f734c6a30e5e4",
        "qmnist-test-images-idx3-ubyte - md5 1394631089c404de565df7b7aeaf9412",
        "qmnist-test-labels-idx2-int - md5 5b5b05890a5e13444e108efe57b788aa",
    ),
)

_EMNIST_ZIP = SetFile(
    "gzip.zip",
    ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",),
    561753746,
    {
        "sha256": "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
        "md5": "58c8d27c78d21e728a6bc7b3cc06412e",
    },
)


def _emnist(part: str, title: str, classes: tuple[str, ...], n_train: int, n_test: int) -> SetInfo:
    return SetInfo(
        f"emnist-{part}",
        f"EMNIST: {title}",
        classes,
        n_train,
        n_test,
        "not stated; derived from NIST Special Database 19, cite Cohen et al. 2017",
        "emnist",
        "EMNIST",
        f"emnist-{part}-",
        (_EMNIST_ZIP.name,),
        (_EMNIST_ZIP,),
    )


def _toy(name: str, title: str) -> SetInfo:
    return SetInfo(name, title, TOYS[name][1], 2_000, 1_000, "MIT", name, columns=COLUMNS)


SETS: Mapping[str, SetInfo] = {
    info.name: info
    for info in (
        _MNIST,
        _FASHION,
        _KMNIST,
        _emnist("digits", "handwritten digits", _DIGITS, 240_000, 40_000),
        _emnist("letters", "handwritten letters, capital and small as one", _UPPER, 124_800, 20_800),
        _emnist("balanced", "digits and letters, look-alikes merged, balanced", _MERGED, 112_800, 18_800),
        _emnist("byclass", "digits, capital and small letters", (*_DIGITS, *_UPPER, *_LOWER), 697_932, 116_323),
        _emnist("bymerge", "digits and letters, look-alikes merged", _MERGED, 697_932, 116_323),
        _emnist("mnist", "digits, in the form of MNIST", _DIGITS, 60_000, 10_000),
        _QMNIST,
        SetInfo("digits", "digits drawn by xpnet itself", _DIGITS, 60_000, 10_000, "MIT", "digits"),
        _toy("moons", "two half circles that reach into each other"),
        _toy("spirals", "three arms of a spiral"),
        _toy("xor", "four clouds, one in each quadrant; the class is whether the signs differ"),
        _toy("circles", "a circle inside another one"),
    )
}
"""The sets known by name."""


def class_names(data: str, classes: Sequence[Hashable]) -> list[str]:
    """How classes are called on paper: as their set says, if it is one that is known by name; otherwise as they are.

    data : the name of the set.
    """
    known = SETS[data].classes if data in SETS else ()
    # A file may hold any classes under a known name.
    return list(known) if tuple(classes) == tuple(range(len(known))) else list(map(str, classes))


def shown_names(data: str, classes: Sequence[Hashable]) -> list[str]:
    """The same where a terminal or a picture shows them: what is not printable is escaped."""
    return [one_line(name) for name in class_names(data, classes)]
