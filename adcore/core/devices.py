"""Where tensors lie: the device of a plan, and the way there."""

from __future__ import annotations

import torch


def device_of(name: str) -> str:
    """`auto` -> the first CUDA device where there is one, else the CPU; anything else is taken as torch's name."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def is_accelerator(device: str) -> bool:
    """Whether tensors have to be copied from host memory to be used there."""
    return device.startswith("cuda")


def to_device(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """The tensor on `device`. What lies in host memory is pinned on its way to an accelerator, so that nobody waits for
    the copy; what is on the device already is given back as it is, since it can neither be pinned nor needs to be."""
    if is_accelerator(device) and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)  # what is pinned already is not copied for it
    return tensor.to(device)


def room(device: str, memory_gb: float) -> float:
    """Bytes that data may take there: the budget, and on an accelerator at most half of what is free now."""
    budget = memory_gb * 1e9
    return min(budget, torch.cuda.mem_get_info(device)[0] / 2) if is_accelerator(device) else budget
