"""How the sweeps of a step lie on devices: in shards, each of which is what one loss term sees."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from uov_jax.errors import InputError

# Tasks whose loss is a mean over the rows of a micro-batch, not over shards of equal weight, with
# all that sees a micro-batch alone. The first one's network has no batch norms.
MEANS_OF_ROWS = {"ess": "the mean of the loss", "esg": "batch norms and the mean of the loss"}


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The shards of a step, spread over micro-batches and devices.

    A shard is the sweeps (rooms) that one contrast or one Lovász term sees. Shard i of a step is
    the same sweeps however they are spread, and the loss is the mean over all shards. A device
    holds whole shards, or devices next to each other hold one together.

    Attributes:
        batch_size: sweeps of a step.
        sweeps_per_shard: divides it.
        micro_batches: equal parts of a step, worked on one after the other.
        devices: of the whole run.
        gathers: whether devices may hold a shard together; None where a task knows no such thing.

    """

    batch_size: int
    sweeps_per_shard: int
    micro_batches: int = 1
    devices: int = 1
    gathers: bool | None = None

    @classmethod
    def of(cls, config: ConfigDict, devices: int) -> Geometry:
        """That of a recipe on so many devices, all hosts' together.

        Recipes without `sweeps_per_shard` have losses that count rows, for which sweeps may lie
        anyhow.

        Raises:
            InputError: they do not divide; names the field and what works.

        """
        shard = config.get("sweeps_per_shard", 1)
        return cls(
            batch_size=config.batch_size,
            sweeps_per_shard=config.batch_size if shard is None else shard,
            micro_batches=config.get("accumulate_steps", 1),
            devices=devices,
            gathers=config.get("gather_shards", None),
        )

    def __post_init__(self) -> None:
        """Refuse what does not divide."""
        for field, value in (
            ("batch_size", self.batch_size),
            ("sweeps_per_shard", self.sweeps_per_shard),
            ("accumulate_steps", self.micro_batches),
        ):
            if value < 1:
                raise InputError(f"config.{field} = {value}: expected at least 1")
        if self.batch_size % self.sweeps_per_shard:
            raise InputError(
                f"config.sweeps_per_shard = {self.sweeps_per_shard} does not divide "
                f"config.batch_size = {self.batch_size}: expected "
                f"{either(_divisors(self.batch_size))}, or another batch"
            )
        if self.num_shards % self.micro_batches:
            raise InputError(
                f"config.accumulate_steps = {self.micro_batches} does not divide the "
                f"{self.num_shards} shard{'s' * (self.num_shards > 1)} of a step "
                f"({self._fields()}): expected {either(_divisors(self.num_shards))}, or a smaller "
                "config.sweeps_per_shard"
            )
        if self.devices not in self.device_counts(bool(self.gathers)):
            raise InputError(self._refusal())

    @property
    def num_shards(self) -> int:
        """Shards of a step."""
        return self.batch_size // self.sweeps_per_shard

    @property
    def sweeps(self) -> int:
        """Sweeps of one device in one micro-batch."""
        return self.batch_size // (self.micro_batches * self.devices)

    @property
    def shards(self) -> int:
        """Shards of one device in one micro-batch; 1 where it holds a part of one."""
        return max(1, self.sweeps // self.sweeps_per_shard)

    @property
    def sweeps_of_a_shard(self) -> int:
        """How many of a shard's sweeps lie on one device."""
        return self.sweeps // self.shards

    @property
    def devices_of_a_shard(self) -> int:
        """How many devices, next to each other, hold one shard together."""
        return self.sweeps_per_shard // self.sweeps_of_a_shard

    def described(self) -> str:
        """What is not said by the sizes of batch and machine, such as ", 4 to a shard"."""
        said = f", {self.sweeps_per_shard} to a shard" if self.sweeps_per_shard > 1 else ""
        if self.micro_batches > 1:
            said += f", in {self.micro_batches} micro-batches"
        return said

    def more_micro_batches(self) -> list[int]:
        """Larger numbers of micro-batches that work on these devices, rising."""
        numbers = _divisors(self.num_shards)
        return [n for n in numbers if n > self.micro_batches and self._allows(micro_batches=n)]

    def smaller_shards(self) -> tuple[int, int] | None:
        """A size of shards, and a number of micro-batches that it allows beyond today's."""
        for size in reversed(_divisors(self.sweeps_per_shard)[:-1]):
            for number in _divisors(self.batch_size // size):
                if number > self.micro_batches and self._allows(
                    sweeps_per_shard=size, micro_batches=number
                ):
                    return size, number
        return None

    def more_devices(self) -> list[int]:
        """Larger numbers of devices that can share a step out, held shards together or not."""
        counts = self.device_counts(gathers=self.gathers is not None)
        return [count for count in counts if count > self.devices]

    def smaller_batches(self) -> list[int]:
        """Smaller batches that work on these devices, rising; of one shard where this one is."""
        whole = self.num_shards == 1
        return [
            size
            for size in range(1, self.batch_size)
            if self._allows(
                batch_size=size, sweeps_per_shard=size if whole else self.sweeps_per_shard
            )
        ]

    def _allows(self, **changes: Any) -> bool:
        try:
            dataclasses.replace(self, **changes)
        except InputError:
            return False
        return True

    def device_counts(self, gathers: bool) -> list[int]:
        """Numbers of devices that the shards of a micro-batch can be spread over, rising."""
        shards = self.num_shards // self.micro_batches
        whole = _divisors(shards)
        if not gathers:
            return whole
        return whole + [shards * part for part in _divisors(self.sweeps_per_shard)[1:]]

    def _fields(self) -> str:
        accumulation = f", config.accumulate_steps = {self.micro_batches}"
        size = self.sweeps_per_shard
        shard = f" by config.sweeps_per_shard = {size}" if size > 1 else ", one to a shard"
        fields = f"config.batch_size = {self.batch_size}{shard}"
        return fields + accumulation * (self.micro_batches > 1)

    def _refusal(self) -> str:
        shards, whole = self.num_shards // self.micro_batches, self.device_counts(gathers=False)
        ways = [f"{either(self.device_counts(bool(self.gathers)))} can (--devices)"]
        shared = self.device_counts(gathers=True)[len(whole) :]
        if shared and self.gathers is False:
            ways.append(f"{either(shared)} with --config.gather_shards=True")
        parts = self.micro_batches * self.devices
        smaller, rest = divmod(self.batch_size, parts)
        if rest:
            ways.append(f"or a config.batch_size that {parts} divides")
        else:
            ways.append(f"--config.sweeps_per_shard={smaller} makes smaller ones, another recipe")
        return (
            f"{self.devices} devices cannot share out {shards} shard{'s' * (shards > 1)} of a "
            f"{'micro-batch' if self.micro_batches > 1 else 'step'} ({self._fields()}): "
            f"{'; '.join(ways)}"
        )


def changed_by_micro_batches(config: ConfigDict) -> str:
    """What of a step sees the sweeps of one micro-batch alone, by the task; "" for nothing."""
    if config.task in MEANS_OF_ROWS:
        return MEANS_OF_ROWS[config.task]
    if config.get("model", {}).get("freeze_trunk", False):
        return ""  # Batch norms are as in evaluation.
    return "batch norms"


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def either(numbers: list[int]) -> str:
    """Numbers in words, such as "1, 2 or 4"."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
