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

from ._version import __version__

# Rooms that are used by their names: xpnet.functional.dense, xpnet.plots.curves.
_MODULES = {
    "augment": "numerics.augment",
    "distributed": "distributed",
    "export": "export",
    "functional": "numerics.functional",
    "optim": "optim",
    "plots": "plots",
    "sklearn": "sklearn",
}

_HOMES = {
    "CSVLog": "training.logs",
    "MLP": "numerics.network",
    "Backend": "backend",
    "Callback": "training.callbacks",
    "ConfigError": "errors",
    "DataError": "errors",
    "Dataset": "data",
    "DeviceError": "errors",
    "Distortion": "numerics.augment",
    "EarlyStopping": "training.callbacks",
    "Ensemble": "model",
    "Epoch": "training.history",
    "LearningRates": "training.callbacks",
    "MissingPackageError": "errors",
    "Model": "model",
    "ModelError": "errors",
    "NonFiniteError": "errors",
    "Progress": "training.progress",
    "Result": "training.fit",
    "Run": "training.run",
    "RunDirectory": "training.directory",
    "Scores": "model",
    "Split": "data",
    "MLflowLog": "training.logs",
    "TeamError": "errors",
    "TensorBoardLog": "training.logs",
    "WandbLog": "training.logs",
    "TrainConfig": "training.config",
    "XpnetError": "errors",
    "animate": "studies.animate",
    "available": "backend",
    "fit": "training.fit",
    "init_params": "training.initializers",
    "load": "model",
    "load_data": "data",
    "read_page": "data",
    "read_picture": "data",
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
    "MLflowLog",
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
    "TeamError",
    "TensorBoardLog",
    "TrainConfig",
    "WandbLog",
    "XpnetError",
    "__version__",
    "animate",
    "available",
    "fit",
    "init_params",
    "load",
    "load_data",
    "read_page",
    "read_picture",
    "select",
]

if TYPE_CHECKING:
    from xpnet import distributed as distributed
    from xpnet import export as export
    from xpnet import optim as optim
    from xpnet import plots as plots
    from xpnet import sklearn as sklearn
    from xpnet.backend import Backend, available, select
    from xpnet.data import Dataset, Split, load_data, read_page, read_picture
    from xpnet.errors import (
        ConfigError,
        DataError,
        DeviceError,
        MissingPackageError,
        ModelError,
        NonFiniteError,
        TeamError,
        XpnetError,
    )
    from xpnet.model import Ensemble, Model, Scores, load
    from xpnet.numerics import augment as augment
    from xpnet.numerics import functional as functional
    from xpnet.numerics.augment import Distortion
    from xpnet.numerics.network import MLP
    from xpnet.studies.animate import animate
    from xpnet.training.callbacks import Callback, EarlyStopping, LearningRates
    from xpnet.training.config import TrainConfig
    from xpnet.training.directory import RunDirectory
    from xpnet.training.fit import Result, fit
    from xpnet.training.history import Epoch
    from xpnet.training.initializers import init_params
    from xpnet.training.logs import CSVLog, MLflowLog, TensorBoardLog, WandbLog
    from xpnet.training.progress import Progress
    from xpnet.training.run import Run


if not TYPE_CHECKING:  # which would believe in any name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"xpnet.{_MODULES[name]}")
        if name not in _HOMES:
            raise AttributeError(f"module 'xpnet' has no attribute {name!r}")
        value = getattr(import_module(f"xpnet.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
