"""A second device: CUDA's first, or for machines that have none tensors that are at home on `meta`, and have values
all the same.

A tensor on it wraps one on the CPU. Whatever PyTorch does with it is done with the wrapped one, and what comes out is
on the second device again. As on a real accelerator, an operation on tensors of both devices raises, NumPy is refused,
and what is made without `device=` is left behind on the CPU. So what passes a test here leaves no tensor behind, and
its numbers can be compared with the CPU's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

REAL = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if REAL else torch.device("meta")

_aten = torch.ops.aten
# What CUDA takes from both devices: copies, indices on the CPU, and there the lengths of packed sequences.
_INDEXED = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_PACKED = {_aten._pack_padded_sequence, _aten._pad_packed_sequence, _aten.lstm, _aten.gru, _aten.rnn_tanh}
_BOTH = {_aten.copy_, _aten._to_copy, *_INDEXED, *_PACKED}


class SecondDeviceTensor(Tensor):
    """`held` is a tensor on the CPU with the same numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> SecondDeviceTensor:
        with torch.inference_mode(False):  # where a wrapper cannot be made
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=DEVICE,
            )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_without_lists(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_without_lists(index), value)

    def __repr__(self, **_: Any) -> str:
        return f"on the second device: {self.held!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.detach().clone().requires_grad_(self.requires_grad)


def _without_lists(index: Any) -> Any:
    """PyTorch makes a tensor of a list among indices where the indexed one is: on `meta`, one without values."""
    if isinstance(index, tuple):
        return tuple(map(_without_lists, index))
    return torch.tensor(index) if isinstance(index, list) else index


class _SecondDevice(TorchDispatchMode):
    """Catches also what is made from nothing on the device, or moved there."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    there = any(isinstance(t, SecondDeviceTensor) for t in inputs)
    assert all(isinstance(t, SecondDeviceTensor) or t.device != DEVICE for t in inputs), f"{function}: without values"
    if there and function.overloadpacket not in _BOTH:
        left = [tuple(t.shape) for t in inputs if not isinstance(t, SecondDeviceTensor) and t.ndim]
        if left:
            raise RuntimeError(f"{function}: all tensors are expected on the second device, found {left} on the CPU")
    elif there and function.overloadpacket in _INDEXED and not isinstance(inputs[0], SecondDeviceTensor):
        raise RuntimeError(f"{function}: indices are on the second device, and what they index on the CPU")
    device = kwargs.get("device")
    goes = (
        isinstance(inputs[0] if inputs else None, SecondDeviceTensor) or there if device is None else device == DEVICE
    )
    with _disable_current_modes():
        out = function(*tree_map(_cpu, args), **tree_map(_cpu, kwargs))
    written = _written(function, args, kwargs)
    if written is not None:
        return written
    if not goes or function.overloadpacket is _aten._local_scalar_dense:
        return out
    if function.overloadpacket is _aten._pack_padded_sequence:
        return SecondDeviceTensor(out[0]), out[1]
    return tree_map(lambda t: SecondDeviceTensor(t) if isinstance(t, Tensor) else t, out)


def _cpu(x: Any) -> Any:
    if isinstance(x, SecondDeviceTensor):
        return x.held
    return torch.device("cpu") if isinstance(x, torch.device) and x == DEVICE else x


def _written(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation in place gives back: what it wrote on, in the place of which the wrapper stays as it is."""
    returns = function._schema.returns
    if len(returns) != 1 or returns[0].alias_info is None or not returns[0].alias_info.is_write:
        return None
    for argument, value in zip(function._schema.arguments, args, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return value
    return next(kwargs[a.name] for a in function._schema.arguments if a.alias_info is not None and a.name in kwargs)


@contextlib.contextmanager
def second_device() -> Iterator[torch.device]:
    """Inside, there is the device. One that is not real has no bf16: asking whether autocast is on says no."""
    if REAL:
        yield DEVICE
        return
    enabled, autocast = torch.is_autocast_enabled, torch.autocast

    def is_enabled(kind: str | None = None) -> bool:
        return kind != DEVICE.type and (enabled() if kind is None else enabled(kind))

    def maybe(kind: str, *args: Any, **kwargs: Any) -> Any:
        return contextlib.nullcontext() if kind == DEVICE.type else autocast(kind, *args, **kwargs)

    def with_values(make: Any) -> Any:
        """PyTorch makes none with values on `meta`."""

        def from_data(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
            there = device is not None and torch.device(device) == DEVICE
            return make(data, **kwargs).to(DEVICE) if there else make(data, device=device, **kwargs)

        return from_data

    with (
        mock.patch.object(torch, "is_autocast_enabled", is_enabled),
        mock.patch.object(torch, "autocast", maybe),
        mock.patch.object(torch, "tensor", with_values(torch.tensor)),
        mock.patch.object(torch, "as_tensor", with_values(torch.as_tensor)),
        mock.patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["cpu", DEVICE.type]),
        _SecondDevice(),
    ):
        yield DEVICE


def is_there(tensor: Tensor) -> bool:
    return tensor.device == DEVICE and (REAL or isinstance(tensor, SecondDeviceTensor))
