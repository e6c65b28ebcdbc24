"""Speech emotion recognition in which every score is reported together with its protocol."""

import warnings
from importlib import import_module

from ser_lib.models.hf_registration import register

__version__ = "0.1.0"

# librosa imports a progress bar that warns, in every notebook, that it would be prettier with ipywidgets.
warnings.filterwarnings("ignore", message="IProgress not found")

# So that transformers loads a frozen encoder with its head like any checkpoint; imports nothing heavy.
register()

# Imported when they are first used, so that `ser --help` answers at once.
_PUBLIC = {
    "EMOTIONS": "corpora.labels",
    "SerError": "common.errors",
    "load_clips": "corpora.clips",
    "load_recipe": "recipes.recipe",
    "load_run": "inference.run",
    "make_split": "protocols.splits",
    "train": "training.experiment",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ser_lib' has no attribute {name!r}")
    return getattr(import_module(f"ser_lib.{_PUBLIC[name]}"), name)
