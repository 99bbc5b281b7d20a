"""Layers and Res16UNet34C in PyTorch, over any library's sparse convolutions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers.peer import Call, Peer
from uov_jax.models.minkunet import STAGES, VARIANTS

VARIANT = VARIANTS["res16unet34c"]


@dataclass(frozen=True)
class Library:
    """A library's sparse tensors and convolutions.

    A convolution is made from its kernel float32 [K, C_in, C_out], K in our order, and has no bias.
    Level 0 is that of the coordinates; each further one halves the resolution.

    tensor: (coords int32 [N, 4], features [N, C]) -> sparse tensor that knows no map yet.
    features, replaced: rows of a sparse tensor, and the same tensor with other rows.
    same, down, up: (kernel, level) -> convolution on a level, from it to the next, and back to it.
    kernel_gradient: convolution after a backward pass -> dw [27 or 3, 3, 3, C_in, C_out], a view.
    first_map: builds the 3x3x3 map of the coords.
    """

    tensor: Callable[[np.ndarray, torch.Tensor], Any]
    features: Callable[[Any], torch.Tensor]
    replaced: Callable[[Any, torch.Tensor], Any]
    same: Callable[[np.ndarray, int], nn.Module]
    down: Callable[[np.ndarray, int], nn.Module]
    up: Callable[[np.ndarray, int], nn.Module]
    kernel_gradient: Callable[[nn.Module], torch.Tensor]
    first_map: Callable[[np.ndarray], Any]


def peer(
    name: str,
    library: Library,
    setting: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Peer:
    """The library's layers and network as a peer; every call runs inside `setting()`."""

    def within(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def run(*arguments: Any) -> Any:
            with setting():
                return call(*arguments)

        return run

    def both_within(calls: tuple[Call, Call]) -> tuple[Call, Call]:
        return within(calls[0]), within(calls[1])

    return Peer(
        name,
        layer=lambda *arguments: both_within(within(_layer)(library, *arguments)),
        first_map=within(library.first_map),
        network=lambda *arguments: both_within(_network(library, *arguments)),
    )


def _layer(
    library: Library, coords: np.ndarray, x: np.ndarray, w: np.ndarray, dy: np.ndarray
) -> tuple[Call, Call]:
    convolution = library.same(w, 0)
    features, slope = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
    known = library.tensor(coords, torch.from_numpy(x))
    with torch.no_grad():
        convolution(known)  # The map is built here, and kept with the tensor.

    def rows() -> torch.Tensor:
        return library.features(convolution(library.replaced(known, features)))

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return rows()

    def both() -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        features.grad = None
        convolution.zero_grad(set_to_none=True)
        y = rows()
        y.backward(slope)
        return y.detach(), features.grad, library.kernel_gradient(convolution)

    return forward, both


class _Block(nn.Module):
    """Two 3x3x3 convolutions with norms and a shortcut, from the weights under `name`."""

    def __init__(
        self, library: Library, weights: Mapping[str, np.ndarray], name: str, level: int
    ) -> None:
        super().__init__()
        self.library = library
        self.conv1 = library.same(weights[f"{name}.conv1.kernel"], level)
        self.norm1 = _norm(weights, f"{name}.norm1")
        self.conv2 = library.same(weights[f"{name}.conv2.kernel"], level)
        self.norm2 = _norm(weights, f"{name}.norm2")
        self.shortcut = nn.Sequential()
        if f"{name}.downsample.0.kernel" in weights:
            linear = _linear(weights, f"{name}.downsample.0")
            self.shortcut = nn.Sequential(linear, _norm(weights, f"{name}.downsample.1"))

    def forward(self, x: Any) -> Any:
        rows, replaced = self.library.features, self.library.replaced
        y = self.conv1(x)
        y = self.conv2(replaced(y, torch.relu_(self.norm1(rows(y)))))
        return replaced(y, torch.relu_(self.norm2(rows(y)) + self.shortcut(rows(x))))


class _Network(nn.Module):
    """Res16UNet34C."""

    def __init__(self, library: Library, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.library = library
        self.stem = library.same(weights["conv0p1s1.kernel"], 0)
        self.steps, self.norms = nn.ModuleList(), nn.ModuleList([_norm(weights, "bn0")])
        self.blocks = nn.ModuleList()
        for stage, depth in enumerate(VARIANT.blocks):
            if stage < STAGES:
                level = stage + 1
                kernel = weights[f"conv{stage + 1}p{2**stage}s2.kernel"]
                self.steps.append(library.down(kernel, stage))
                self.norms.append(_norm(weights, f"bn{stage + 1}"))
            else:
                level = 2 * STAGES - 1 - stage
                kernel = weights[f"convtr{stage}p{2 ** (level + 1)}s2.kernel"]
                self.steps.append(library.up(kernel, level))
                self.norms.append(_norm(weights, f"bntr{stage}"))
            names = [f"block{stage + 1}.{i}" for i in range(depth)]
            blocks = [_Block(library, weights, name, level) for name in names]
            self.blocks.append(nn.Sequential(*blocks))
        self.final = _linear(weights, "final")

    def forward(self, x: Any) -> torch.Tensor:
        rows, replaced = self.library.features, self.library.replaced
        x = self.stem(x)
        x = replaced(x, torch.relu_(self.norms[0](rows(x))))
        skips = [rows(x)]
        for stage, (step, blocks) in enumerate(zip(self.steps, self.blocks, strict=True)):
            x = step(x)
            y = torch.relu_(self.norms[stage + 1](rows(x)))
            if stage >= STAGES:
                y = torch.cat([y, skips[2 * STAGES - 1 - stage]], dim=1)
            x = blocks(replaced(x, y))
            skips.append(rows(x))
        return self.final(rows(x))


def _norm(weights: Mapping[str, np.ndarray], name: str) -> nn.BatchNorm1d:
    values = {
        key.rpartition(".")[2]: torch.tensor(value)
        for key, value in weights.items()
        if key.startswith(f"{name}.bn.")
    }
    norm = nn.BatchNorm1d(len(values["weight"]), momentum=VARIANT.batch_norm_momentum)
    norm.load_state_dict(values)
    return norm


def _linear(weights: Mapping[str, np.ndarray], name: str) -> nn.Linear:
    kernel, bias = weights[f"{name}.kernel"], weights.get(f"{name}.bias")
    linear = nn.Linear(kernel.shape[0], kernel.shape[1], bias=bias is not None)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(kernel.T))
        if bias is not None:
            linear.bias.copy_(torch.tensor(bias[0]))
    return linear


def _network(
    library: Library,
    coords: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    weights: Mapping[str, np.ndarray],
) -> tuple[Call, Call]:
    model = _Network(library, weights)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    x, target = torch.from_numpy(features), torch.from_numpy(labels).long()

    def forward() -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            return model(library.tensor(coords, x))

    def step() -> float:
        model.train()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(library.tensor(coords, x)), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return forward, step
