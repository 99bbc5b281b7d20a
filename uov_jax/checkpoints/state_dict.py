"""Models to and from PyTorch state_dicts, tensor by tensor and by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx

from uov_jax.errors import InputError

# What trainers put before a network's names: Lightning modules, DataParallel, OpenScene's fusion
# model, contrastive trainers' encoder, and DepthContrast, whose third trunk is the voxel network.
# Several may stand before one name.
PREFIXES = ("module.", "model_points.", "model.", "net3d.", "encoder.", "trunk.2.")


@dataclass(frozen=True)
class Refused:
    """A tensor of the file that was not taken: its shape, and the model's (None: no such name)."""

    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...] | None

    def __str__(self) -> str:
        wanted = "no such tensor in the model"
        if self.expected is not None:
            wanted = f"the model has {self.expected}"
        return f"{self.name}: shape {self.found} in the file, {wanted}"


@dataclass(frozen=True)
class LoadReport:
    """Outcome of loading: names taken, names the file lacks, tensors of the file not taken."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    refused: tuple[Refused, ...]

    def __str__(self) -> str:
        lines = [
            f"loaded {len(self.loaded)} tensors, "
            f"{len(self.missing)} missing in the file, {len(self.refused)} refused"
        ]
        lines += [f"  missing: {name}" for name in self.missing]
        lines += [f"  refused: {entry}" for entry in self.refused]
        return "\n".join(lines)


def named_variables(module: nnx.Module, prefix: str = "") -> Iterator[tuple[str, nnx.Variable]]:
    """(state_dict name, variable) of every parameter and statistic of a module."""
    for name, value in vars(module).items():
        if isinstance(value, (nnx.Param, nnx.BatchStat)):
            yield prefix + name, value
        elif isinstance(value, nnx.Module):
            yield from named_variables(value, f"{prefix}{name}.")


def model_to_state_dict(model: nnx.Module) -> dict[str, np.ndarray]:
    """Every tensor by its PyTorch name, sorted; float32, counters int64 as there."""
    state_dict = {}
    for name, variable in sorted(named_variables(model), key=lambda pair: pair[0]):
        value = np.asarray(variable.get_value())
        state_dict[name] = value.astype(np.int64) if value.dtype.kind == "i" else value
    return state_dict


def arrays_to_state_dict(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network among the arrays of a training checkpoint, as `model_to_state_dict` gives it.

    Args:
        arrays: by name, as `uov_jax.checkpoints.folder.read_arrays` gives them: those under
            `parameters/` and `statistics/` are the network, the others the optimiser's.

    """
    state_dict = {}
    for name, value in arrays.items():
        kind, _, short = name.partition("/")
        if kind in ("parameters", "statistics"):
            state_dict[short] = value.astype(np.int64) if value.dtype.kind == "i" else value
    return dict(sorted(state_dict.items()))


def state_dict_to_model(model: nnx.Module, state_dict: Mapping[str, np.ndarray]) -> LoadReport:
    """Put every tensor whose name and shape match into `model`, in place.

    Names may carry the prefixes that trainers add (`PREFIXES`). A last layer of another width, or
    the image network of a pre-training checkpoint, is refused and reported, as in the reference.
    An abstract model (`nnx.eval_shape`) may be filled too: whatever is missing stays abstract.

    Raises:
        InputError: not one tensor matches, or two names are the same once prefixes are gone.

    """
    tensors = strip_prefixes(state_dict)
    loaded, missing, refused = [], [], []
    for name, variable in named_variables(model):
        expected = variable.get_value()
        if name not in tensors:
            missing.append(name)
        elif tensors[name].shape != expected.shape:
            refused.append(Refused(name, tensors[name].shape, expected.shape))
        else:
            variable.set_value(jnp.asarray(tensors[name]).astype(expected.dtype))
            loaded.append(name)
    known = {name for name, _ in named_variables(model)}
    refused += [Refused(name, tensors[name].shape, None) for name in tensors if name not in known]
    if not loaded:
        raise InputError(
            f"not one of {len(tensors)} tensors matches the model: the file has "
            f"{_some(tensors)}, the model {_some(known)}"
        )
    return LoadReport(tuple(loaded), tuple(missing), tuple(refused))


def strip_prefixes(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tensors, without what trainers put before the network's own names.

    Raises:
        InputError: two names become one.

    """
    origin: dict[str, str] = {}
    stripped = {}
    for name, value in state_dict.items():
        short = name
        while prefix := next((p for p in PREFIXES if short.startswith(p)), None):
            short = short[len(prefix) :]
        if short in origin:
            raise InputError(f"both {origin[short]!r} and {name!r} are {short!r} without prefixes")
        origin[short] = name
        stripped[short] = np.asarray(value)
    return stripped


def _some(names: Mapping[str, np.ndarray] | set[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "") if shown else "none"
