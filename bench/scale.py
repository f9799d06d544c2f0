"""How time and memory grow with the images, in memory and streamed from their file, with the width and the depth.

Every measurement is `xpnet train` as a user runs it: one epoch in its own process, whose peak memory is reported by the
system. The images are drawn on the fly into raw IDX files, which xpnet streams automatically once they are too large;
if the system's file cache has room for such a file, it is read from there and not from the disk.
"""

import argparse
import contextlib
import multiprocessing
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import xpnet
from bench._common import Parser, machine, print_machine, train, write_json
from bench._log import note

IMAGES = (60_000, 250_000, 1_000_000, 8_000_000)
WIDTHS = (32, 128, 512, 2048, 8192)
DEPTHS = (1, 2, 4, 8, 16)
WIDTH = 256

# What streaming 8 million images may take, and the least share of the rate from memory.
MEMORY, SHARE = 600, 0.8


class Measured(NamedTuple):
    """One size: each round's images per second of training and peak memory in MB."""

    size: int
    rates: list[float]
    memory: list[float]
    header: str = ""

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)

    @property
    def streamed(self) -> bool:
        """Whether the images stayed in their file."""
        return "streamed from the file" in self.header

    @property
    def gflops(self) -> float:
        """1e9 floating-point operations per second, of a step's matrix products: three for each layer but the first."""
        found = re.search(r"network +([\d-]+) ", self.header)
        layers = pairwise(map(int, found[1].split("-"))) if found else ()
        per_image = sum((4 if i == 0 else 6) * n_in * n_out for i, (n_in, n_out) in enumerate(layers))
        return self.rate * per_image / 1e9


def main(argv: list[str] | None = None) -> int:
    """Measure the three, print a table of each, and write what --json names."""
    parser = Parser(prog="python -m bench scale", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=IMAGES, help="numbers of images")
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS, help="widths of one hidden layer, on --data")
    parser.add_argument(
        "--depths", type=int, nargs="*", default=DEPTHS, help=f"numbers of hidden layers of {WIDTH}, on --data"
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="keep the drawn files here, and reuse those already drawn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    options = parser.parse_args(argv)
    for name in ("images", "widths", "depths"):
        if any(size < 1 for size in getattr(options, name)):
            parser.error(f"--{name} must be at least 1")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    about = machine()
    print_machine(about)
    found: dict[str, list[Measured]] = {"images": _by_images(options)}
    _print("images", "784-128-10, batches of 64, digits drawn by xpnet", found["images"])
    shapes: tuple[tuple[str, list[int], Callable[[int], list[int]], str], ...] = (
        ("width", options.widths, lambda size: [size], "one hidden layer"),
        ("depth", options.depths, lambda size: size * [WIDTH], f"hidden layers of {WIDTH}"),
    )
    for name, sizes, hidden, what in shapes:
        arguments = {size: ["--data", options.data, "--hidden", *map(str, hidden(size))] for size in sizes}
        found[name] = _measure(arguments, options.rounds)
        for measured in found[name]:
            note(f"{name} {measured.size}: training", [1e6 / rate for rate in measured.rates], "us")
            note(f"{name} {measured.size}: memory", measured.memory, "MB")
        _print(name, f"{what}, batches of 64, {options.data}", found[name])
    if options.json is not None:
        columns = ("size", "rates", "rate", "memory", "gflops", "streamed")
        tables = {name: [{key: getattr(row, key) for key in columns} for row in rows] for name, rows in found.items()}
        write_json(options.json, about | tables)
    return _judge(found["images"])


def _by_images(options: argparse.Namespace) -> list[Measured]:
    with _folder(options.dir) as folder:
        files = {n: _drawn(folder, n) for n in options.images}
        return _measure({n: ["--data", str(file)] for n, file in files.items()}, options.rounds)


def _measure(arguments: dict[int, list[str]], rounds: int) -> list[Measured]:
    """Train with each size's arguments in turn, round by round."""
    rows = {size: Measured(size, [], []) for size in arguments}
    for _ in range(rounds):
        for size, given in arguments.items():
            run = train([*given, "--lr", "0.01"])
            rows[size].rates.append(run.rate)
            rows[size].memory.append(run.memory)
            rows[size] = rows[size]._replace(header=" ".join(run.header.split()))
    return list(rows.values())


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="xpnet-bench-") as folder:
        yield Path(folder)


def _drawn(folder: Path, n: int) -> Path:
    """The IDX file of n digits, drawn if it is not there, in a process of its own, so that this one stays small."""
    images = folder / f"digits{n}-images.idx"
    if not images.exists():
        process = multiprocessing.get_context("spawn").Process(target=_draw, args=(images, n))
        process.start()
        process.join()
        if process.exitcode:
            raise xpnet.DataError(f"{images}: could not be drawn")
    return images


def _draw(path: Path, n: int) -> None:
    """Draw digits block by block into an IDX file of images, and one of labels beside it."""
    from xpnet.data.digits import draw

    block = 50_000
    labels = path.with_name(path.name.replace("images", "labels"))
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as images_file, labels.open("wb") as labels_file:
        images_file.write(bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4) for size in (n, 28, 28)))
        labels_file.write(bytes([0, 0, 8, 1]) + n.to_bytes(4))
        for seed, start in enumerate(range(0, n, block)):
            images, classes = draw(min(block, n - start), seed=seed)
            images_file.write(images.tobytes())
            labels_file.write(classes.astype("uint8").tobytes())
    unfinished.rename(path)


def _print(name: str, title: str, rows: list[Measured]) -> None:
    if not rows:
        return
    print(f"\n{title}")
    print(f"  {name:>9}   images/s            range  GFLOP/s  peak MB")
    for row in rows:
        print(
            f"  {row.size:>9,} {row.rate:10,.0f} {min(row.rates):7,.0f} - {max(row.rates):7,.0f} {row.gflops:8.1f} "
            f"{max(row.memory):8.0f}{'  streamed' if row.streamed else ''}"
        )
    sys.stdout.flush()


def _judge(rows: list[Measured]) -> int:
    """Whether streaming keeps what it promises."""
    if not (streamed := [row for row in rows if row.streamed]):
        return 0
    largest = max(streamed, key=lambda row: row.size)
    memory = max(largest.memory)
    good = memory < MEMORY
    said = f"{memory:.0f} MB at most"
    if whole := [row.rate for row in rows if not row.streamed]:
        share = largest.rate / max(whole)
        good = good and share >= SHARE
        said += f", {100 * share:.0f} % of the best rate from memory"
    verdict = "as" if good else "NOT AS"
    print(
        f"\n{largest.size:,} images streamed: {said}: {verdict} promised (less than {MEMORY} MB, at least "
        f"{100 * SHARE:.0f} %)"
    )
    return 0 if good else 1
