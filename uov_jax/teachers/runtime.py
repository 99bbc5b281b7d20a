"""Where and how a PyTorch teacher runs: device and precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from uov_jax.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device of a name such as "cpu", "cuda" or "cuda:1"; "auto" is CUDA where there is one.

    Raises:
        InputError: no such device here, or neither of a CPU nor of CUDA.

    """
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"no device {name!r}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda" and not available:
        raise InputError(f"device {name!r}: this PyTorch ({torch.__version__}) sees no CUDA device")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r}: teachers run on cpu and cuda")
    return device


def half_precision(device: torch.device) -> torch.dtype:
    """What `mixed_precision` computes in."""
    return torch.float16 if device.type == "cuda" else torch.bfloat16


def autocast_setting(device: torch.device) -> str:
    """What a dump's manifest says of masks made with autocast, so that others are not mixed in."""
    return f"{half_precision(device)}, masks and words decided in float32"


@contextlib.contextmanager
def mixed_precision(device: torch.device, on: bool) -> Iterator[None]:
    """Autocast to `half_precision`; float32 throughout where not `on`.

    What a network then keeps in float32 is left so: PyTorch lets cuDNN round the factors of a
    float32 convolution to 10 bits unless told not to, with autocast as without.
    """
    with torch.autocast(device.type, dtype=half_precision(device), enabled=on):
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
