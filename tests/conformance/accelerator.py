"""A CUDA device that is not there: tensors that lie in host memory and behave as if they did not.

What CUDA refuses is refused with its own kind of error: arithmetic and indexing across devices, `.numpy()`, pinning of
what is on the device already, and a CPU generator that is to fill it. Values are those of the CPU. What is emulated is
where Python code sees a tensor; what a C++ function does within is not looked at, nor are kernels or half precision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
MEMORY = 10**9  # bytes, all free
REFUSED = {"numpy", "__array__", "pin_memory"}
ACROSS = {"copy_", "to", "type_as", "__set__", "requires_grad_", "module_load"}  # take tensors of two devices
STRICT = {"cat", "stack", "concat"}  # take no CPU scalar either
WAITS = {"cpu", "item", "tolist", "__bool__", "__float__", "__int__", "__index__", "nonzero"}  # for the device


class Remote(torch.Tensor):
    """A tensor on the device."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _called(func, tuple(args), dict(kwargs or {}))


class Accelerator(TorchFunctionMode):
    """While it is entered, `cuda` is a device; `waits` names each call that made the host wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if _name(func) in WAITS and any(isinstance(leaf, Remote) for leaf in tree_leaves(args)):
            self.waits.append(_name(func))
        return _called(func, tuple(args), dict(kwargs or {}))


@contextlib.contextmanager
def accelerator() -> Iterator[Accelerator]:
    """An accelerator, in every thread of a pool too."""
    device = Accelerator()
    submit, apply = ThreadPoolExecutor.submit, nn.Module._apply

    def entered(pool: ThreadPoolExecutor, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        def run() -> Any:
            with device:
                return work(*args, **kwargs)

        return submit(pool, run)

    def swapped(module: nn.Module, move: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        """Parameters are to become Remote, which a mere exchange of their data does not do."""
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return apply(module, move, recurse)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    with pytest.MonkeyPatch.context() as patch, device:
        patch.setattr(ThreadPoolExecutor, "submit", entered)
        patch.setattr(nn.Module, "_apply", swapped)
        patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (MEMORY, MEMORY))
        patch.setattr(torch.cuda, "get_device_name", lambda device=None: "accelerator of the tests")
        yield device


def _called(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a function of torch's, on the device where that is where it would be."""
    name, leaves = _name(func), tree_leaves((args, kwargs))
    if name == "_has_compatible_shallow_copy_type":  # what a module asks before it exchanges a parameter's data
        return False
    remote = any(isinstance(leaf, Remote) for leaf in leaves)
    if remote:
        _refuse(name, args, kwargs, leaves)
    if name in ("device", "is_cuda", "get_device") and remote:
        return {"device": DEVICE, "is_cuda": True, "get_device": 0}[name]
    if name == "pin_memory":
        return args[0]
    if name == "__deepcopy__" and remote:
        return _copied(args[0])
    if name in ("to", "cpu", "cuda"):
        return _moved(name, args, kwargs)
    if kwargs.get("device") is not None:
        remote = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs |= {"device": "cpu"} if remote else {}
        if remote and getattr(kwargs.get("generator"), "device", DEVICE).type != DEVICE.type:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    kwargs.pop("pin_memory", None)
    with torch._C.DisableTorchFunctionSubclass():
        result = func(*args, **kwargs)
        return tree_map(_remote, result) if remote else result


def _refuse(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], leaves: Sequence[Any]) -> None:
    """Raise what CUDA would of a call with some tensor on the device."""
    if name in REFUSED:
        raise TypeError(f"can't convert or pin a cuda:0 device type tensor ({name}); copy it to host memory first")
    near = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Remote)]
    if name in ("__getitem__", "__setitem__"):
        parts = args[1] if isinstance(args[1], tuple) else (args[1],)
        index = [part for part in parts if isinstance(part, torch.Tensor | list)]
        if not isinstance(args[0], Remote) and any(isinstance(leaf, Remote) for leaf in index):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        near = [leaf for leaf in args[2:] if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Remote)]
        near = near if index else []
    mixed = [leaf for leaf in near if leaf.dim() or name in STRICT]
    if mixed and name not in ACROSS:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu! ({name})")
    if getattr(kwargs.get("generator"), "device", DEVICE).type != DEVICE.type:
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def _moved(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """`to`, `cpu` and `cuda`: to another device always a copy."""
    tensor, away = args[0], isinstance(args[0], Remote)
    device, dtype, layout = torch.device("cpu" if name == "cpu" else DEVICE), None, None
    if name == "to":
        like = args[1] if len(args) > 1 and isinstance(args[1], torch.Tensor) else None
        given = {key: value for key, value in kwargs.items() if key != "copy"}
        if like is None:
            device, dtype, _, layout = torch._C._nn._parse_to(*args[1:], **given)
        else:
            device, dtype = DEVICE if isinstance(like, Remote) else torch.device("cpu"), like.dtype
    remote = away if device is None else device.type == DEVICE.type
    with torch._C.DisableTorchFunctionSubclass():
        moved = tensor.clone() if remote != away else tensor
        if dtype is not None or layout is not None:
            moved = moved.to(dtype=dtype, memory_format=layout or torch.preserve_format)
        return _remote(moved) if remote else moved


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """A deep copy of a leaf."""
    with torch._C.DisableTorchFunctionSubclass():
        made = _remote(tensor.detach().clone())
        made.requires_grad_(tensor.requires_grad)
    if getattr(tensor, "_is_param", False):
        made._is_param = True
    return made


def _remote(value: Any) -> Any:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, Remote)
    return value.as_subclass(Remote) if plain else value


def _name(func: Any) -> str:
    """Of a function, or of the property whose getter it is."""
    name = getattr(func, "__name__", "")
    return func.__self__.__name__ if name == "__get__" else name
