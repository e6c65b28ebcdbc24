"""The networks that learn from features; `build` makes one by its name in a recipe.

`pretrained`, which ties a network to the encoder whose embeddings it reads, is imported by name: it needs
transformers, which takes seconds to import.
"""

from ser_lib.models.networks import FORMS, NETWORKS, Network, build, load, save

__all__ = ["FORMS", "NETWORKS", "Network", "build", "load", "save"]
