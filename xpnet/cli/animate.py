"""xpnet animate."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from xpnet.cli.datasets import DataDir, DataName, newest_run
from xpnet.cli.settings import Dark, NoDownload, whole_numbers
from xpnet.cli.terminal import working
from xpnet.plots import dark as dark_ground
from xpnet.studies.animate import animate as film

__all__ = ["animate"]


def animate(
    run: Annotated[Path | None, Parameter(help="A run directory; by default the newest run in runs.")] = None,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="File of the film: .gif or .webp; by default film.gif in the run.", metavar="FILE")
    ] = None,
    what: Annotated[
        list[Literal["filters", "boundary", "projection"]] | None,
        Parameter(
            help="What to show besides curves: the first layer's weights (of images), the decision boundary (of two "
            "features), the last hidden layer; by default all that there is.",
            consume_multiple=(1, None),
            negative="",
        ),
    ] = None,
    frames: Annotated[int, Parameter(converter=whole_numbers, help="Number of pictures.", metavar="N")] = 100,
    seconds: Annotated[float, Parameter(help="Seconds that they take.", metavar="X")] = 10.0,
    dark: Dark = False,
    force: Annotated[bool, Parameter(negative="", help="Replace a file that exists.", show_default=False)] = False,
    data: DataName = None,
    device: Annotated[
        str | None, Parameter(help="Where to compute: cpu, cuda, cuda:N or auto; by default as the run.")
    ] = None,
    library: Annotated[str | None, Parameter(help="Array library; by default the run's, or the device's own.")] = None,
    data_dir: DataDir = None,
    no_download: NoDownload = False,
) -> None:
    """Film a run: train it again, and watch it learn.

    A run keeps its last state, not the way to it, so it takes as long as the
    training did, and some seconds for the pictures. The same settings lead to
    the same parameters, bit for bit, which is compared at the end.
    """
    run = run or newest_run()
    out = out or run / "film.gif"
    with working("training") as report, dark_ground(dark):
        made = film(
            run,
            out,
            what=what,
            frames=frames,
            seconds=seconds,
            data=data,
            data_dir=data_dir,
            download=not no_download,
            device=device,
            library=library,
            force=force,
            report=report,
        )
    print(f"{out}: {len(made.scenes)} pictures in {seconds:g} s, {out.stat().st_size:,} bytes")
    if made.difference:
        print(
            f"its end differs from the run's model by {made.difference:.1e} of the parameters' norm: another machine, "
            "library or number of threads rounds differently, or the run was resumed with other settings"
        )
    else:
        print("its end is the run's model, bit for bit")
