"""Arrays on the GPU: trained on where they lie, and the predictions lie there too.

With array_api_dispatch scikit-learn's own steps take CuPy's arrays and torch's tensors as well, so a whole pipeline
stays on the GPU. Without a GPU a tensor in the CPU's memory takes its place.
"""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # scikit-learn asks for it, before SciPy is imported

import sklearn
from array_api_compat import array_namespace, device
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import xpnet
from xpnet.sklearn import MLPClassifier


def place() -> xpnet.Backend:
    """A GPU by CuPy or torch, or else the CPU."""
    for library in ("cupy", "torch"):
        try:
            return xpnet.select("cuda", library)
        except xpnet.DeviceError:
            pass
    print("no GPU: a torch tensor on the CPU is used")
    return xpnet.select("cpu", "torch")


backend = place()
X, y = (backend.to_device(array) for array in load_digits(return_X_y=True))
with sklearn.config_context(array_api_dispatch=True):
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(early_stopping=True, random_state=0))
    pipeline.fit(X_train, y_train)
    for name, array in {"X": X_train, "coefs_[0]": pipeline[-1].coefs_[0], "predict": pipeline.predict(X_test)}.items():
        print(f"{name}: {array_namespace(array).__name__.split('.')[-1]} {array.dtype} on {device(array)}")
    print(f"accuracy {100 * pipeline.score(X_test, y_test):.2f} %")
