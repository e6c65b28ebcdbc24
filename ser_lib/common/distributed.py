"""Several processes, on one machine or many, started by `accelerate launch` or `torchrun`; one process otherwise.

All of them run the same program. Clips are divided by `share`, and all but the first process wait at `wait`
for what the first alone writes: the store and the run folder lie on a disk that all of them see.
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta


def world_size() -> int:
    """How many processes work together: what the launcher put into the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def share(items: Sequence) -> list:
    """This process's part of the items: every world-size-th, so that long and short ones are spread."""
    return list(items)[rank() :: world_size()]


def wait() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        _state().wait_for_everyone()


def after_first(work: Callable):
    """`work()`, in the first process before all others, so that these find in the cache what it has left there."""
    result = work() if is_first() else None
    wait()
    if not is_first():
        result = work()
    wait()
    return result


def from_first(value):
    """The first process's `value`, in every process."""
    if world_size() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _state()
    return broadcast_object_list([value])[0]


def gather(items: list) -> list:
    """The lists of all processes joined, in the order of the processes."""
    if world_size() == 1:
        return items
    from accelerate.utils import gather_object

    _state()
    return gather_object(items)


def _state():
    from accelerate import PartialState

    # The others wait while the first fits a network alone; PyTorch would give up after minutes.
    return PartialState(cpu=not _has_gpu(), timeout=timedelta(days=1))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
