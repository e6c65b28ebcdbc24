"""Several processes on one machine or many, started by `accelerate launch` or `torchrun`; otherwise one process.

The first process alone writes the cache and the run folder, which lie on a disk that all share. One process alone
imports neither accelerate nor PyTorch here.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta


def world_size() -> int:
    """The number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0


def share(items: Sequence) -> list:
    """This process's part of the items: every `world_size()`-th, so that a sorted list is divided evenly."""
    return list(items)[rank() :: world_size()]


def wait() -> None:
    """Return once every process has called this."""
    if world_size() > 1:
        _state().wait_for_everyone()


def first_alone() -> AbstractContextManager:
    """A block that the other processes begin when the first has finished it; they find its results in the cache."""
    return nullcontext() if world_size() == 1 else _state().main_process_first()


def from_first(value):
    """The first process's `value`, in every process."""
    return gather([value])[0]


def gather(items: list) -> list:
    """The lists of all processes, concatenated in the order of the processes."""
    if world_size() == 1:
        return items
    from accelerate.utils import gather_object

    _state()
    return gather_object(items)


def _state():
    """accelerate's state, which connects the processes when it is first created."""
    import torch
    from accelerate import PartialState

    # The other processes wait while the first trains a network, for longer than PyTorch's default of minutes.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))
