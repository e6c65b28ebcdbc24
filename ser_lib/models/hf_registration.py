"""Register this project's checkpoint class with transformers as soon as transformers itself is imported.

`ser_lib.models.hf_checkpoint` registers the class, but also imports torch and transformers, which takes seconds.
Therefore `import ser_lib` only installs a finder that imports it right after transformers' own table of classes.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder

TABLE = "transformers.models.auto.modeling_auto"


class _AfterTable:
    """A module finder that registers our classes after the module `TABLE` was executed."""

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path) if name == TABLE else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                import_module("ser_lib.models.hf_checkpoint")

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]  # the purpose of this finder
        return spec


def register() -> None:
    """Register our classes with transformers: now if its table of classes is imported, else when it is imported."""
    if TABLE in sys.modules:
        import_module("ser_lib.models.hf_checkpoint")
    elif not any(isinstance(finder, _AfterTable) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterTable())
