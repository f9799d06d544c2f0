"""What a capturing stream records, and the graph that repeats it.

The trap: captured work is not done, its results are garbage until the graph is launched, and what CUDA does not allow
then is refused or spoils the capture.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from .errors import CUDARuntimeError
from .memory import Memory, garbage

if TYPE_CHECKING:
    from .state import Fake
    from .streams import Stream


class Capture:
    """What a stream records instead of running it."""

    def __init__(self, origin: "Stream", mode: int) -> None:
        self.origin, self.mode = origin, mode
        self.operations: list[tuple[str, Callable[[], None], list[tuple[np.ndarray, Memory]]]] = []
        self.valid = True
        self.unjoined: set[Stream] = set()

    def refuse(self, status: int) -> NoReturn:
        """Raise for what may not be captured; CUDA then gives up the whole capture."""
        self.valid = False
        raise CUDARuntimeError(status)


class Graph:
    """Recorded operations, which know addresses and nothing else."""

    fake: ClassVar["Fake"]
    operations: list[tuple[str, Callable[[], None], list[tuple[np.ndarray, Memory]]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "currently this class cannot be initiated by the user and must be created via stream capture"
        )

    def launch(self, stream: "Stream | None" = None) -> None:
        (stream or self.fake.current_stream()).submit("graph_launch", self._run, [])

    def _run(self) -> None:
        for _, run, outputs in self.operations:
            run()
            for out, memory in outputs:
                if memory.freed:  # CUDA would report an illegal address, at the next synchronisation
                    self.fake.note("illegal_address")
                    out[...] = garbage(out.dtype)

    def upload(self, stream: "Stream | None" = None) -> None:
        self.fake.note("upload")

    def debug_dot_str(self, flags: int = 0) -> str:
        nodes = [
            f'"graph_1_node_{i}"[style="bold" shape="octagon" label="{i}\ncupy_{name}\\<\\<\\<1,128,0\\>\\>\\>"];'
            for i, (name, _, _) in enumerate(self.operations)
        ]
        edges = [f'"graph_1_node_{i}" -> "graph_1_node_{i + 1}";' for i in range(len(nodes) - 1)]
        lines = [
            'digraph dot {\nsubgraph cluster_1 {\nlabel="graph_1" graph[style="dashed"];',
            *nodes,
            *edges,
            "}\n}\n",
        ]
        return "\n".join(lines)
