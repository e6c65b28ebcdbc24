"""Speech emotion recognition whose every number stands beside the protocol that made it."""

import warnings
from importlib import import_module

from ser_lib.registration import register

__version__ = "0.1.0"

# librosa imports a progress bar that warns, in every notebook, that it would be prettier with ipywidgets.
warnings.filterwarnings("ignore", message="IProgress not found")

# So that transformers loads a frozen encoder with its head like any checkpoint; imports nothing heavy.
register()

# Imported where they are first used, so that `ser --help` answers at once.
_PUBLIC = {
    "EMOTIONS": "labels",
    "SerError": "errors",
    "load_clips": "clips",
    "load_recipe": "recipes",
    "load_run": "runs",
    "make_split": "splits",
    "train": "experiments",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        value = getattr(import_module(f"ser_lib.{_PUBLIC[name]}"), name)
        globals()[name] = (
            value  # `audit` is a function here, though importing its module first bound the module
        )
        return value
    raise AttributeError(f"module 'ser_lib' has no attribute {name!r}")
