"""The tests; each of their processes has one thread."""

import os
import signal

from threadpoolctl import threadpool_limits

# Every CPU has a process of the tests, so that a second thread would only be in the way: in libraries that are imported
# later and in child processes, by the environment, and in NumPy, which a plugin of pytest may have imported already.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, "1")
    threadpool_limits(1)

# scikit-learn passes arrays of other libraries on only where SciPy does, which reads this when it is first imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# A shell starts what runs in the background deaf to Ctrl-C, which tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
