"""python -m tests.fuzz [READER ...]: fuzz the readers of files."""

import sys

from .fuzzer import main

try:
    code = main()
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    code = 130
sys.exit(code)
