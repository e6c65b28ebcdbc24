"""Make transformers know this project's own kind of checkpoint, as soon as transformers itself is imported.

`pipeline("audio-classification", model=folder)` and `AutoModelForAudioClassification.from_pretrained(folder)` find
a class by the `model_type` in the folder's config.json, among the classes that were registered. Importing
`ser_lib.models.frozen_encoder` registers ours, but takes the seconds that torch and transformers take to import. So
`import ser_lib` only leaves a finder behind: when the module that holds transformers' table of classes is
imported, by whatever way, ours are registered right after it.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder

TABLE = "transformers.models.auto.modeling_auto"


class _AfterTable:
    """Finds one module, where Python would find it too, and registers our classes once it has been executed."""

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path) if name == TABLE else None
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                import_module("ser_lib.models.frozen_encoder")

            spec.loader.exec_module = execute_and_register
        return spec


def register() -> None:
    """Register our classes with transformers: now where its table of them is imported, else when it will be."""
    if TABLE in sys.modules:
        import_module("ser_lib.models.frozen_encoder")
    elif not any(isinstance(finder, _AfterTable) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterTable())
