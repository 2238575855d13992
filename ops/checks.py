"""Checks at the public edges: each error names the argument, what was expected, what came, and the remedy."""

import importlib
import importlib.metadata
import math
from collections.abc import Iterable, Sequence
from types import ModuleType

import torch
from torch import Tensor

FAISS_WHEELS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cu11")


def check_shape(name: str, tensor: Tensor, shape: Sequence[int | str]) -> None:
    """Raise unless `tensor` has `shape`; a letter stands for any size, the same letter for the same size."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor of shape {_spell(shape)}, got {type(tensor).__name__}")
    sizes: dict[str, int] = {}
    fits = tensor.ndim == len(shape)
    for got, want in zip(tensor.shape, shape, strict=False):
        fits = fits and got == (sizes.setdefault(want, got) if isinstance(want, str) else want)
    if not fits:
        raise ValueError(f"{name}: expected shape {_spell(shape)}, got {tuple(tensor.shape)}")


def check_floating(name: str, tensor: Tensor) -> None:
    """Raise unless `tensor` holds floating-point numbers."""
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {tensor.dtype}; convert with .float()")


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise if `tensor` holds NaN or infinity (this reads the tensor: for edges, not for inner loops)."""
    # the sum is a third of the time; it may overflow where no number does, so it only acquits
    if not math.isfinite(tensor.detach().sum().item()) and not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(f"{name}: expected finite numbers, got {bad} NaN or infinite of {tensor.numel()}")


def check_same_device(**tensors: Tensor) -> None:
    """Raise unless all tensors lie on one device."""
    devices = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        where = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"expected all tensors on one device, got {where}; move them with .to(device)")


def check_like_layer(layer: Tensor, **tensors: Tensor) -> None:
    """Raise unless the inputs `tensors` have the dtype and lie on the device of `layer`, one of a layer's constants."""
    for name, tensor in tensors.items():
        if tensor.dtype != layer.dtype:
            raise TypeError(
                f"{name}: expected {layer.dtype} like the layer, got {tensor.dtype}; convert the input, "
                "or the layer with .double() or .float()"
            )
    check_same_device(**tensors, layer=layer)


def check_positive(**numbers: float) -> None:
    """Raise unless all `numbers` are finite and above 0."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name}: expected a finite number above 0, got {number}")


def check_not_negative(**numbers: float) -> None:
    """Raise unless all `numbers` are finite and at least 0."""
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name}: expected a finite number of at least 0, got {number}")


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def require_module(module: str, needed_by: str, remedy: str) -> ModuleType:
    """Import an optional package inside a call, or say who needs it and how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{needed_by} needs the package '{module}', which cannot be imported ({error}); {remedy}"
        ) from error


def refuse_two_faiss(installed: Iterable[str] | None = None) -> None:
    """Raise if two FAISS wheels are installed: both write the module `faiss`, the later one silently wins.

    Args:
        installed: names of installed distributions; None asks the running environment.
    """
    if installed is None:
        installed = {d.metadata["Name"] for d in importlib.metadata.distributions() if d.metadata["Name"]}
    names = {name.lower().replace("_", "-") for name in installed}
    found = [wheel for wheel in FAISS_WHEELS if wheel in names]
    if len(found) > 1:
        raise RuntimeError(
            f"{' and '.join(found)} are installed together and overwrite each other's module 'faiss'; "
            f"remedy: pip uninstall -y {' '.join(found)}, then install one extra: handful[cpu] or handful[gpu]"
        )


def _spell(shape: Sequence[int | str]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
