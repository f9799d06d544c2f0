"""python -m bench NAME [options]: run one of the measurements in this folder."""

import os
import sys
from importlib import import_module
from pathlib import Path

import xpnet
from bench._log import begin, write_line


def main() -> int:
    """Run the measurement named first on the command line; without one, list them."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print("usage: python -m bench NAME [options]")
        for name in names:
            print(f"  {name:10} {(import_module(f'bench.{name}').__doc__ or '').splitlines()[0]}")
        return 0 if len(sys.argv) < 2 else 2
    start = begin()
    try:
        status = int(import_module(f"bench.{sys.argv[1]}").main(sys.argv[2:]))
        try:
            if log := write_line(sys.argv[1], sys.argv[2:], start, status):
                print(f"logged in {os.path.relpath(log)}", file=sys.stderr)
        except OSError as error:
            print(f"bench: not logged: {error.filename}: {error.strerror}", file=sys.stderr)
        return status
    except xpnet.XpnetError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
