"""The program: python -m xpnet, and the command xpnet."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; an interruption while it is still being imported is one line, too."""
    try:
        from xpnet import cli

        return cli.main()
    except KeyboardInterrupt:
        print("xpnet: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
