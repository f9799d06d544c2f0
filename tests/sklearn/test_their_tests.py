"""scikit-learn's own tests of its MLP, from the installed wheel, with our classes in the place of theirs.

Their file is executed anew while `sklearn.neural_network` holds our classes, so that all that its body evaluates sees
ours, the marks that parametrize over the classes among it. Nothing of it is copied.
"""

import importlib.util
import math
from types import ModuleType
from unittest.mock import patch

import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra sklearn")

from sklearn import neural_network

from xpnet.sklearn import MLPClassifier, MLPRegressor

# What of theirs does not apply to ours, and why.
NOT_OURS = {
    "test_gradient": "calls the private _loss_grad_lbfgs; test_contract.py compares steps, and gradcheck the gradients",
    "test_mlp_partial_fit_after_fit": "asserts that partial_fit refuses early_stopping, which ours can do",
}

# Theirs run under scikit-learn's filters, where only what is deprecated is an error; some do not converge by design.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def their_module(classifier: type, regressor: type) -> ModuleType:
    """scikit-learn's file of tests, executed with these classes in the place of its own."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.multiple(neural_network, MLPClassifier=classifier, MLPRegressor=regressor):
        spec.loader.exec_module(module)
    return module


THEIRS = {
    name: test for name, test in vars(their_module(MLPClassifier, MLPRegressor)).items() if name.startswith("test_")
}
globals().update({name: test for name, test in THEIRS.items() if name not in NOT_OURS})


@pytest.fixture
def global_random_seed() -> int:
    """scikit-learn's fixture, which its own conftest has."""
    return 42


def test_what_is_left_out_exists() -> None:
    assert set(NOT_OURS) <= set(THEIRS)


def test_nearly_all_of_theirs_run() -> None:
    ours = [test for name, test in THEIRS.items() if name not in NOT_OURS]
    marks = [[mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"] for test in ours]
    assert sum(math.prod(len(mark.args[1]) for mark in each) for each in marks) > 50
