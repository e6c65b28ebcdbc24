"""The networks that learn from features; `build` makes one by its name in a recipe."""

from ser_lib.models.networks import NETWORKS, Network, build, load, save

__all__ = ["NETWORKS", "Network", "build", "load", "save"]
