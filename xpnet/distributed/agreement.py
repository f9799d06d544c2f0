"""What has to be equal on all processes, and what had better be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NoReturn

from xpnet.errors import TeamError

from .team import Team

__all__ = ["agree", "differences"]

log = logging.getLogger(__name__)


def agree(team: Team, facts: Mapping[str, Any], bits: Mapping[str, Any] | None = None, remedy: str = "") -> None:
    """Compare what all processes know; all of them call it.

    facts : what has to be equal, by names that read well after "another", such as {"NumPy": "2.4.6"}; the values can be
        pickled and compared by ==.
    bits : likewise what changes no more than rounding, such as the type of the CPU; a difference is a warning.
    remedy : a clause that ends the message of an error.

    Raises TeamError on all processes, of the first difference: "process 1 on node2 has another NumPy than process 0 on
        node1: 2.1.0 and 2.4.6".
    """
    bits = {} if bits is None else bits
    known = team.gather((team.where, dict(facts), dict(bits)))
    if different := differences([(where, must) for where, must, _ in known]):
        message = f"{different[0]}; {remedy}" if remedy else different[0]
        team.together(lambda: _fail(message))
    for difference in differences([(where, may) for where, _, may in known]) if team.rank == 0 else []:
        log.warning("%s; the bits of a result depend on which process computes it", difference)


def _fail(message: str) -> NoReturn:
    raise TeamError(message)


def differences(known: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """For each fact in which a process differs from the first, a clause about the first one that does.

    known : for each process, its place and its facts.
    """
    (where, facts), *others = known
    found = []
    for name in dict.fromkeys(name for _, each in known for name in each):
        value = facts.get(name)
        for place, its in others:
            if its.get(name) != value:
                found.append(f"{place} has another {name} than {where}: {_short(its.get(name))} and {_short(value)}")
                break
    return found


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-30:]}"
