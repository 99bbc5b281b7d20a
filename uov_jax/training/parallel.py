"""How a step is spread over devices and hosts. Nothing else knows `jax.pmap`.

Every device runs the same per-device function over the axis `AXIS`, on its own part of the batch
and its own copy of the state. The function averages its gradients and metrics with `average`;
batch statistics are averaged inside the model, by its batch norms, and must not be averaged again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from uov_jax.errors import InputError
from uov_jax.training import hosts
from uov_jax.training.cluster import find_member
from uov_jax.training.meeting import meet

AXIS = "data"
Tree = TypeVar("Tree")


def average(tree: Tree) -> Tree:
    """Mean over the devices of every array, inside a per-device function."""
    # XLA would copy everything once for a mean of one.
    return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.pmean(tree, AXIS)


def in_place(update: Callable[..., Tree], *trees: Any) -> Tree:
    """`update(*trees)` of elementwise arithmetic, inside a per-device function.

    Arrays have the axis of the devices in it, of length 1, as they have outside. Between arrays of
    the very same shape XLA does arithmetic in place; where they differ by that axis, it copies
    every donated array first.
    """

    def expanded(array: jax.Array) -> jax.Array:
        return array[None] if array.ndim else array

    def reduced(array: jax.Array) -> jax.Array:
        return array.reshape(array.shape[1:]) if array.ndim else array

    return jax.tree.map(reduced, update(*jax.tree.map(expanded, trees)))


def start_hosts(
    address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    join_timeout: float = 300.0,
    host_timeout: float = hosts.PATIENCE,
) -> None:
    """Join the other processes of a run; call it before any device is used.

    Args:
        address: host:port of process 0; None: as the cluster's environment says.
        num_processes: how many there are; None: as the environment says.
        process_id: number of this one; None: as the environment says.
        join_timeout: seconds to wait until all have come.
        host_timeout: seconds without a sign of life, after which a process counts as lost.

    Raises:
        InputError: neither options nor environment say who this process is.
        NotMetError: not all came, or they do not fit together.

    """
    member = find_member(address, num_processes, process_id, os.environ, join_timeout)
    names = meet(member.place, join_timeout)
    # Signals are the loop's: it lets all processes stop at one step.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        member.place.address,
        member.place.processes,
        member.place.process,
        local_device_ids=member.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=round(join_timeout),
        # Of `hosts` the message is better, so it shall come first.
        heartbeat_timeout_seconds=round(3 * host_timeout),
        shutdown_timeout_seconds=round(3 * host_timeout),
    )
    hosts.connected(names, host_timeout)


def choose_devices(number: int | None = None) -> list[jax.Device]:
    """The first `number` of this process's devices, or all of them.

    Raises:
        InputError: there are not that many, or fewer than all in a run of several processes.

    """
    devices = jax.local_devices()
    if number is None:
        return devices
    if not 1 <= number <= len(devices):
        hint = ""
        if devices[0].platform == "cpu":
            hint = (
                "; for virtual CPU devices set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={number}"
            )
        raise InputError(
            f"--devices={number}: this process has {len(devices)} "
            f"{devices[0].platform} device(s){hint}"
        )
    if jax.process_count() > 1 and number != len(devices):
        raise InputError(
            f"--devices={number}: a run of {jax.process_count()} processes uses all "
            f"{len(devices)} devices of each"
        )
    return devices[:number]


class Parallel:
    """The devices of a run, and the placing of arrays on them."""

    def __init__(self, devices: Sequence[jax.Device] | None = None) -> None:
        """Use these devices of this process (all by default)."""
        self.devices = list(devices) if devices is not None else jax.local_devices()
        self.hosts = hosts.here()
        self.num_processes = self.hosts.processes
        self.num_devices = len(self.devices) * self.num_processes
        mesh = Mesh(np.array(self.devices), (AXIS,))
        self._sharding = NamedSharding(mesh, PartitionSpec(AXIS))

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and speaks to the user."""
        return self.hosts.is_main

    def replicate(self, tree: Tree) -> Tree:
        """A copy of host arrays on each device of this process, under a leading axis."""

        def copies(array: Any) -> Any:
            array = np.asarray(array)
            return np.broadcast_to(array, (len(self.devices), *array.shape))

        return jax.device_put(jax.tree.map(copies, tree), self._sharding)

    def shard(self, tree: Tree) -> Tree:
        """Host arrays with a leading axis over this process's devices, placed on them.

        Raises:
            InputError: a leading axis is not the number of devices.

        """
        for path, array in jax.tree_util.tree_leaves_with_path(tree):
            if np.ndim(array) == 0 or len(array) != len(self.devices):
                raise InputError(
                    f"batch{jax.tree_util.keystr(path)} has shape {np.shape(array)}; its first "
                    f"axis must be the {len(self.devices)} devices of this process"
                )
        return jax.device_put(tree, self._sharding)

    def first(self, tree: Tree) -> Tree:
        """The first device's copy of a replicated tree, as host arrays of their own."""
        shards = jax.tree.map(lambda array: array.addressable_shards[0].data, tree)
        # device_get may give a view of memory that the next step is going to reuse.
        return jax.tree.map(lambda array: np.array(array[0]), jax.device_get(shards))

    def spread(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile `function(state, batch)` over the axis; do not use the state again.

        Its memory is that of the new state.
        """
        devices = None if self.num_processes > 1 else self.devices
        return jax.pmap(function, axis_name=AXIS, devices=devices, donate_argnums=(0,))

    def in_turn(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile `function(tree, *host arrays)` for one device and its copy of `tree`.

        Each call is for the next device of this process; results are there before they are ready.
        """
        turns = itertools.cycle(self.devices)

        @jax.jit
        def run(copies: Any, *arguments: Any) -> Any:
            return function(jax.tree.map(lambda array: array[0], copies), *arguments)

        def call(replicated: Any, *arguments: Any) -> Any:
            device = next(turns)

            def copy_there(array: jax.Array) -> jax.Array:
                return next(s.data for s in array.addressable_shards if s.device == device)

            copies = jax.tree.map(copy_there, replicated)
            return run(copies, *jax.device_put(arguments, device))

        return call
