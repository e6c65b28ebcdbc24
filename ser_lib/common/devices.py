"""The device and the numerical precision of a model's computations."""

from contextlib import nullcontext

import torch

from ser_lib.common.errors import SerError


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the GPU if PyTorch has one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SerError(f"device {name!r} was asked for, but PyTorch sees no GPU. Leave it out, or set it to cpu.")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """The precision "float32", "bf16" or "fp16" that `name` stands for on this device.

    "auto" is bfloat16 if the processor multiplies it in hardware, float16 on an older GPU, else float32.
    """
    if name == "float32":
        return name
    if device.type == "cuda":
        return name if name != "auto" else ("bf16" if torch.cuda.is_bf16_supported(False) else "fp16")
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast or name == "bf16" else "float32"


def autocast(precision: str, device: torch.device):
    """The context in which a model computes with that precision."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)
