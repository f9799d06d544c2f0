"""xpnet gradcheck."""

import itertools
import json
import sys
from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter

from xpnet.backend import Backend, available, select
from xpnet.cli.terminal import fill, result_console, working
from xpnet.errors import DeviceError
from xpnet.studies.gradcheck import BOUNDS, Comparison, cases, check

__all__ = ["gradcheck"]


def gradcheck(
    *,
    devices: Annotated[
        list[str] | None,
        Parameter(help="Devices to compare, such as cpu cuda.", consume_multiple=(1, None), negative=""),
    ] = None,
    libraries: Annotated[
        list[str] | None,
        Parameter(
            help="Libraries to compare; by default each named device's own, or without --devices all those "
            "installed for the CPU.",
            consume_multiple=(1, None),
            negative="",
        ),
    ] = None,
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
) -> int:
    """Check the gradients against finite differences, and the other libraries against the first one."""
    backends = _backends(devices, libraries)
    found = _check(backends)
    bad = [c for c in found if not c.ok]
    if as_json:
        rows = [{**c._asdict(), "error": c.error if c.error < float("inf") else None, "ok": c.ok} for c in found]
        print(json.dumps({"ok": not bad, "bounds": BOUNDS, "comparisons": rows}, indent=2))
    else:
        _print(backends, found)
    for c in bad:
        where = f"{c.case} on {c.library} {c.device}, {c.dtype} against {c.against}"
        line = f"xpnet: error: {where}: relative error {c.error:.1e}, bound {c.bound:g}"
        print(fill(line), file=sys.stderr)
    return 1 if bad else 0


def _backends(devices: list[str] | None, libraries: list[str] | None) -> list[Backend]:
    """The backends to compare: every named library on every named device that it has; by default all on the CPU.

    Raises DeviceError for a named library that no device has, or a named device that no library has; any other
    combination that is left out is reported with the reason.
    """
    if not devices and not libraries:
        on_cpu = [row for row in available() if row.device == "cpu"]
        for row in on_cpu:
            if not row.usable:
                print(fill(f"left out: {row.detail}"), file=sys.stderr)
        return [select("cpu", row.library) for row in on_cpu if row.usable]
    found: dict[tuple[str, str | None], Backend] = {}
    failed: dict[tuple[str, str | None], DeviceError] = {}
    names: list[str | None] = [*_words(libraries)] or [None]
    for pair in itertools.product(_words(devices) or ["cpu"], names):
        try:
            found[pair] = select(*pair)
        except DeviceError as error:
            failed[pair] = error
    for (device, library), reason in failed.items():
        if libraries and not devices:
            found["cuda", library] = select("cuda", library)
        elif (devices and device not in {d for d, _ in found}) or (libraries and library not in {x for _, x in found}):
            raise reason
        else:
            print(fill(f"left out: {reason.what}"), file=sys.stderr)
    return list(found.values())


def _words(texts: list[str] | None) -> list[str]:
    return [word for text in texts or [] for word in text.split(",") if word]


def _check(backends: list[Backend]) -> list[Comparison]:
    what, total, found = "comparing gradients", len(cases()) * (3 * len(backends) - 1), []
    with working(what) as show:
        for comparison in check(backends):
            found.append(comparison)
            show(what, len(found), total)
    return found


def _print(backends: list[Backend], found: list[Comparison]) -> None:
    """A line for each case with its worst error over all libraries, then one for each library over all cases."""
    from rich.table import Table
    from rich.text import Text

    kinds = list(BOUNDS)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text("worst relative error", "bold"), no_wrap=True, vertical="bottom")
    for kind in kinds:
        heading = "\n".join([*kind.split(), f"< {BOUNDS[kind]:g}"])
        table.add_column(heading, justify="right", no_wrap=True)
    for case in dict.fromkeys(c.case for c in found):
        table.add_row(case, *_worst(kinds, [c for c in found if c.case == case]))
    table.add_row()
    for backend in backends:
        mine = [c for c in found if (c.library, c.device) == (backend.name, backend.device)]
        table.add_row(f"all on {backend.name} {backend.device}", *_worst(kinds, mine))
    console = result_console()
    console.print(table, markup=True)
    bad = sum(not c.ok for c in found)
    verdict = (
        f"{bad} of {len(found)} comparisons are out of bounds"
        if bad
        else f"all {len(found)} comparisons are within bounds"
    )
    first = backends[0]
    console.print(
        f"\n{verdict}. The hand-written float64 gradients are compared with finite differences, and the float64 and "
        f"float32 gradients of all libraries with the float64 ones of {first.name} on {first.device}."
    )


def _worst(kinds: Iterable[str], found: list[Comparison]) -> list[str]:
    cells = []
    for kind in kinds:
        those = [c for c in found if (c.against if c.against in BOUNDS else c.dtype) == kind]
        worst = max(those, key=lambda c: c.error / c.bound, default=None)
        if worst is None:
            cells.append("-")
        else:
            cells.append(f"{worst.error:.1e}" if worst.ok else f"[bold red]{worst.error:.1e} bad[/]")
    return cells
