"""The tests; this is read before a library is imported that sizes its pool of threads."""

import os

# A process of the tests on each CPU leaves none for a second thread.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, "1")
