"""scikit-learn's multilayer perceptrons, over xpnet: change one import, and the same script runs on every device.

    from xpnet.sklearn import MLPClassifier        # instead of sklearn.neural_network

    model = MLPClassifier(hidden_layer_sizes=(100,), device="cuda").fit(X, y)

Parameters, fitted attributes, warnings and errors are scikit-learn's; Parameters, in parameters.py, describes what
there is besides.
"""

from xpnet.checks import required

required("sklearn", "xpnet.sklearn", "sklearn")

from .classifier import MLPClassifier  # noqa: E402
from .regressor import MLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor"]
