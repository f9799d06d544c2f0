"""xpnet: a neural network and its backpropagation, written once against the Array API standard.

    import xpnet

    data = xpnet.load_data("mnist")
    backend = xpnet.select("auto")
    network = xpnet.MLP((data.n_features, 128, data.n_classes))
    result = xpnet.fit(network, data, backend=backend, epochs=5)
    result.model.save("mnist.safetensors")

Public names are loaded when they are first used: importing xpnet costs no more than importing NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Rooms that are used by their names: xpnet.functional.dense, xpnet.plots.curves.
_MODULES = {"augment", "functional", "optim", "plots"}

_HOMES = {
    "CSVLog": "callbacks",
    "MLP": "network",
    "Backend": "backend",
    "Callback": "callbacks",
    "ConfigError": "errors",
    "DataError": "errors",
    "Dataset": "data",
    "DeviceError": "errors",
    "Distortion": "augment",
    "EarlyStopping": "callbacks",
    "Ensemble": "model",
    "Epoch": "history",
    "LearningRates": "callbacks",
    "MissingPackageError": "errors",
    "Model": "model",
    "ModelError": "errors",
    "NonFiniteError": "errors",
    "Progress": "callbacks",
    "Result": "training",
    "Run": "callbacks",
    "RunDirectory": "callbacks",
    "Scores": "model",
    "Split": "data",
    "TensorBoardLog": "callbacks",
    "TrainConfig": "config",
    "XpnetError": "errors",
    "available": "backend",
    "fit": "training",
    "load": "model",
    "load_data": "data",
    "select": "backend",
}

__all__ = [
    "MLP",
    "Backend",
    "CSVLog",
    "Callback",
    "ConfigError",
    "DataError",
    "Dataset",
    "DeviceError",
    "Distortion",
    "EarlyStopping",
    "Ensemble",
    "Epoch",
    "LearningRates",
    "MissingPackageError",
    "Model",
    "ModelError",
    "NonFiniteError",
    "Progress",
    "Result",
    "Run",
    "RunDirectory",
    "Scores",
    "Split",
    "TensorBoardLog",
    "TrainConfig",
    "XpnetError",
    "__version__",
    "available",
    "fit",
    "load",
    "load_data",
    "select",
]

if TYPE_CHECKING:
    from xpnet.augment import Distortion
    from xpnet.backend import Backend, available, select
    from xpnet.callbacks import (
        Callback,
        CSVLog,
        EarlyStopping,
        LearningRates,
        Progress,
        Run,
        RunDirectory,
        TensorBoardLog,
    )
    from xpnet.config import TrainConfig
    from xpnet.data import Dataset, Split, load_data
    from xpnet.errors import (
        ConfigError,
        DataError,
        DeviceError,
        MissingPackageError,
        ModelError,
        NonFiniteError,
        XpnetError,
    )
    from xpnet.history import Epoch
    from xpnet.model import Ensemble, Model, Scores, load
    from xpnet.network import MLP
    from xpnet.training import Result, fit


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"xpnet.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'xpnet' has no attribute {name!r}")
    value = getattr(import_module(f"xpnet.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
