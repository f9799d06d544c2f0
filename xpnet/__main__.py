"""The program: python -m xpnet, and the command xpnet."""

import atexit
import gc
import signal
import sys
import traceback

__all__ = ["main"]


def main() -> int:
    """Run the command line; an interruption while it is still being imported is one line, too.

    A process of a team that ends before it has joined the others ends them, since they would wait for it.
    """
    # What imports make stays, and goes with the process: to search it for garbage, again and again while it grows and
    # once more at the end, takes a quarter of a short run.
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
    try:
        from xpnet import cli

        return cli.main()
    except (KeyboardInterrupt, Exception) as error:
        from xpnet.distributed import abandon, launched

        interrupted = isinstance(error, KeyboardInterrupt)
        if launched()[1] > 1 and sys.argv[1:2] in (["train"], ["info"]):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it takes a second or two
            if interrupted:
                abandon("interrupted", 130, title="xpnet: ")
            abandon(traceback.format_exc().rstrip(), 1)
        if not interrupted:
            raise
        print("xpnet: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
