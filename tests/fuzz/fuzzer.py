"""python -m tests.fuzz [READER ...]: a coverage-guided fuzzer on each reader."""

import gc
import hashlib
import importlib.util
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from bench._common import Parser, machine, print_machine, write_json
from tests.fuzz.readers import LIMIT, READERS, Finding, as_it_is, outcome, warm_up

CORPUS = Path(__file__).parent / "corpus"
MAX_LENGTH = 8192
HANG = 20  # seconds after which libFuzzer ends a reader that does not come back to be judged by LIMIT
ADDRESS_SPACE = 6 << 30
MOST_FINDINGS = 50

# Before anything that is instrumented is imported.
CHILD = """
import sys, atheris
with atheris.instrument_imports(include=["xpnet", "pickle", "zipfile", "tomllib", "json", "csv", "PIL"]):
    from tests.fuzz import fuzzer
fuzzer.child(*sys.argv[1:])
"""


def main(argv: list[str] | None = None) -> int:
    """Fuzz the readers one after the other, each in a process of its own; 1 if there are findings."""
    parser = Parser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"all by default: {', '.join(READERS)}")
    parser.add_argument("--seed", type=int, default=1, help="of the changes; %(default)s by default")
    parser.add_argument("--runs", type=int, default=20_000, help="inputs for each reader; %(default)s by default")
    parser.add_argument("--seconds", type=int, default=0, help="after which to go to the next reader; 0 for never")
    parser.add_argument(
        "--corpus", type=Path, default=CORPUS, help="folder where found inputs go; %(default)s by default"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report")
    options = parser.parse_args(argv)
    for name in options.readers:
        if name not in READERS:
            parser.error(f"unknown reader {name!r}; the choices are {', '.join(READERS)}")
    if options.runs < 1 or options.seconds < 0:
        parser.error("--runs must be at least 1, and --seconds at least 0")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install --group fuzz")

    about = machine()
    about["versions"] |= {name: metadata.version(name) for name in ("atheris", "pillow", "safetensors")}
    print_machine(about)
    print(f"{'reader':10} {'inputs':>10} {'seconds':>8} {'per s':>7} {'data':>7} {'edges':>6} {'findings':>8}")
    results = {}
    for name in options.readers or READERS:
        results[name] = result = fuzz(name, options.runs, options.seconds, options.corpus, options.seed)
        _print_row(name, result)
        for finding in result["findings"]:
            print(f"  {finding['input']}: {finding['what']}", flush=True)
    total: dict[str, Any] = {
        key: sum(result[key] for result in results.values()) for key in ("inputs", "seconds", "data", "edges")
    }
    total["findings"] = [finding for result in results.values() for finding in result["findings"]]
    _print_row("all", total)
    if options.json is not None:
        write_json(
            options.json,
            {"machine": about, "seed": options.seed, "limit_s": LIMIT, "max_length": MAX_LENGTH, "readers": results},
        )
    return int(bool(total["findings"]))


def _print_row(name: str, result: dict[str, Any]) -> None:
    rate, share = result["inputs"] / max(result["seconds"], 1e-9), result["data"] / max(result["inputs"], 1)
    print(
        f"{name:10} {result['inputs']:10,} {result['seconds']:8.1f} {rate:7,.0f} {100 * share:5.1f} % "
        f"{result['edges']:6,} {len(result['findings']):8}",
        flush=True,
    )


def fuzz(name: str, runs: int, seconds: int, corpus: Path, seed: int = 1) -> dict[str, Any]:
    """Fuzz a reader in child processes, a new one wherever an input ends one.

    seconds : after which to end; 0 for never.   corpus : where found inputs go, in a folder of the reader's name.
    Returns the numbers of inputs and of those that were data, seconds, edges of xpnet's and Python's code that were
    reached, and findings, each what it is and the name of its input.
    """
    result: dict[str, Any] = {"inputs": 0, "data": 0, "edges": 0, "findings": []}
    start = time.monotonic()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        work = Path(folder)
        (work / "seeds").mkdir()
        for path in (CORPUS / name).glob("*"):
            shutil.copy(path, work / "seeds")
        while result["inputs"] < runs and len(result["findings"]) < MOST_FINDINGS:
            left = seconds - int(time.monotonic() - start)
            if seconds and left < 1:
                break
            log, stats = work / "log", work / "stats.json"
            stats.unlink(missing_ok=True)
            limits = [f"-runs={runs - result['inputs']}", f"-max_total_time={left if seconds else 0}"]
            limits += [f"-timeout={HANG}", f"-max_len={MAX_LENGTH}", f"-seed={seed + result['inputs']}"]
            # malloc_limit: what is asked for is not yet taken; the audit of memory is the readers' own. Linux counts
            # what this process ever took in the peak of the one that it starts.
            inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            limits += [
                f"-rss_limit_mb={inherited + 3000}",
                "-malloc_limit_mb=0",
                "-print_final_stats=1",
                f"-artifact_prefix={work}/found-",
            ]
            with log.open("w") as file:
                code = subprocess.run(
                    [sys.executable, "-c", CHILD, name, str(work), *limits, str(work / "seeds")],
                    cwd=CORPUS.parents[2], stdout=file, stderr=file, check=False,
                ).returncode  # fmt: skip
            said = log.read_text(errors="replace")
            told: dict[str, Any] = (
                json.loads(stats.read_text()) if stats.exists() else {"inputs": 0, "data": 0, "findings": []}
            )
            result["inputs"] += told["inputs"]
            result["data"] += told["data"]
            edges = [int(cov) for cov in re.findall(r"\bcov: (\d+)", said)]
            result["edges"] = max([result["edges"], *edges])
            for what, file_name in told["findings"]:
                _keep(work / file_name, what, corpus / name, result)
            killers = list(work.glob("found-*"))
            for path in killers:
                _keep(path, f"{path.name.split('-')[1]}: the process ended", corpus / name, result)
                path.unlink()
            if code and not killers:
                last = said.strip().splitlines()[-1:] or ["nothing"]
                result["findings"].append({"what": f"the fuzzer ended with {code}: {last[0]}", "input": ""})
                break
            if not told["inputs"]:
                break
    result["seconds"] = round(time.monotonic() - start, 1)
    return result


def _keep(path: Path, what: str, folder: Path, result: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes()
    name = hashlib.sha256(content).hexdigest()[:16]
    (folder / name).write_bytes(content)
    result["findings"].append({"what": what, "input": name})


def child(name: str, work: str, *limits: str) -> None:
    """Fuzz a reader in this process, which then ends.   limits : libFuzzer's options, -runs first."""
    import atheris

    reader, folder = READERS[name], Path(work) / "input"
    folder.mkdir(exist_ok=True)
    for number, seed in enumerate(warm_up(reader, folder)):
        (Path(work) / "seeds" / f"seed-{number}").write_bytes(seed)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    told: dict[str, Any] = {"inputs": 0, "data": 0, "findings": []}
    runs = int(limits[0].removeprefix("-runs="))
    kinds: dict[str, int] = {}

    def tell() -> None:
        temporary = Path(work) / "stats.part"
        temporary.write_text(json.dumps(told))
        temporary.replace(Path(work) / "stats.json")

    def test_one(content: bytes) -> None:
        told["inputs"] += 1
        try:
            told["data"] += outcome(reader, content, folder) == "data"
        except Finding as finding:
            kind = re.sub(r"\d+|0x\w+", "#", str(finding))[:60]
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] <= 3 and len(told["findings"]) < MOST_FINDINGS:
                (Path(work) / f"finding-{len(told['findings'])}").write_bytes(content)
                told["findings"].append((str(finding), f"finding-{len(told['findings'])}"))
                tell()
        if told["inputs"] % 1000 == 0 or told["inputs"] == runs:  # libFuzzer then ends the process, and asks nobody
            tell()

    def mutate(content: bytes, size: int, seed: int) -> bytes:
        random.seed(seed)
        return reader.reshape(content, lambda part: bytes(atheris.Mutate(part, size)))[:size]

    # What Python adds to each change is saved where there are no sums to make right.
    custom: dict[str, Any] = {"custom_mutator": mutate} if reader.reshape is not as_it_is else {}

    tokens = Path(work) / "tokens"
    tokens.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in reader.tokens))
    gc.freeze()  # what has been imported need not be looked through again and again
    arguments = [sys.argv[0], *limits, *([f"-dict={tokens}"] if reader.tokens else [])]
    atheris.Setup(arguments, test_one, **custom)
    atheris.Fuzz()
    os._exit(0)
