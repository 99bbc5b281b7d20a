"""The input pipeline: order, randomness, resumption and errors."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.input.batching import Capacities
from uov_jax.input.loader import train_batches
from uov_jax.input.tri_modal import TriModalSource, collate_tri_modal

CAPACITIES = Capacities(
    plans=(sparse.PlanSpec(1024, fractions=(1.0,) * 5),), pairs=(2048,), superpoints=(64,)
)


class Numbers:
    """A source whose samples are (index, a random number)."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def sample(self, index, rng):
        return index, rng.random()


def collate_numbers(samples, capacities):
    return {
        "index": np.array([[s[0] for s in device] for device in samples]),
        "random": np.array([[s[1] for s in device] for device in samples]),
    }


def numbers(length=10, sweeps=2, devices=2, **changes):
    settings = {"capacities": CAPACITIES, "seed": 7, "num_epochs": 3, "workers": 0}
    return train_batches(
        Numbers(length),
        batch_size_per_device=sweeps,
        num_devices=devices,
        collate=collate_numbers,
        **(settings | changes),
    )


def assert_equal(a, b) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_an_epoch_visits_samples_once_and_drops_the_remainder():
    batches = numbers()
    assert batches.steps_per_epoch == 2
    found = list(batches)
    assert len(found) == 6
    assert found[0]["index"].shape == (2, 2)
    for epoch in range(3):
        seen = np.concatenate([b["index"].ravel() for b in found[2 * epoch : 2 * epoch + 2]])
        assert len(set(seen.tolist())) == 8


def test_every_epoch_has_its_own_order_and_augmentation():
    found = list(numbers(length=4, sweeps=2, devices=2))
    orders = {tuple(batch["index"].ravel()) for batch in found}
    assert len(orders) > 1
    by_sample = {}
    for batch in found:
        for index, value in zip(batch["index"].ravel(), batch["random"].ravel(), strict=True):
            by_sample.setdefault(int(index), set()).add(float(value))
    assert all(len(values) == 3 for values in by_sample.values())
    assert len(set.union(*by_sample.values())) == 12


@pytest.mark.parametrize("epoch", [0, 1])
def test_no_sample_is_augmented_from_the_stream_of_the_order(epoch, monkeypatch):
    made = []

    def record(entropy):
        made.append(np.random.Generator(np.random.PCG64(entropy)))
        return made[-1]

    monkeypatch.setattr(np.random, "default_rng", record)
    steps = numbers(length=4).steps
    steps[epoch]
    states = [g.bit_generator.seed_seq.generate_state(4).tolist() for g in made]
    assert len(states) == 5  # the order and four samples
    assert len({tuple(state) for state in states}) == 5


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers):
    for a, b in zip(numbers(), numbers(workers=workers), strict=True):
        assert_equal(a, b)


def test_the_seed_decides():
    assert_equal(list(numbers()), list(numbers()))
    assert not np.array_equal(next(iter(numbers()))["index"], next(iter(numbers(seed=8)))["index"])


def test_augmentation_does_not_depend_on_devices():
    one = {int(i): r for b in numbers(devices=1, num_epochs=1) for i, r in _items(b)}
    two = {int(i): r for b in numbers(devices=2, num_epochs=1) for i, r in _items(b)}
    shared = one.keys() & two.keys()
    assert len(shared) >= 6
    assert all(one[i] == two[i] for i in shared)


def _items(batch):
    return zip(batch["index"].ravel().tolist(), batch["random"].ravel().tolist(), strict=True)


def test_hosts_read_disjoint_shares_of_the_same_global_batch():
    together = list(numbers(length=8, sweeps=2, devices=2))
    shares = [list(numbers(length=8, sweeps=2, devices=1, host=h, num_hosts=2)) for h in (0, 1)]
    for whole, *parts in zip(together, *shares, strict=True):
        assert_equal(whole["index"], np.concatenate([part["index"] for part in parts]))


def test_several_hosts_use_the_largest_capacity_alone():
    series = Capacities.for_sweeps(1)
    batches = numbers(capacities=series, num_hosts=2, devices=1)
    assert batches.steps.capacities == series.largest()
    assert numbers(capacities=series).steps.capacities == series


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("taken", [0, 1, 3, 5, 6])
def test_from_a_step_on_come_exactly_the_following_batches(taken, workers):
    whole = list(numbers())
    rest = list(numbers(workers=workers).starting_at(taken))
    assert len(rest) == 6 - taken
    assert_equal(rest, whole[taken:])


def test_without_a_number_of_epochs_it_goes_on():
    iterator = iter(numbers(num_epochs=None))
    found = [next(iterator) for _ in range(20)]
    assert len(found) == 20
    assert_equal(found[:6], list(numbers()))


def test_a_batch_larger_than_the_dataset_is_refused():
    with pytest.raises(ValueError, match="3 samples do not fill one batch of 2 samples x 2 dev"):
        numbers(length=3)


class Broken(Numbers):
    """A source with one sample that cannot be read."""

    def sample(self, index, rng):
        if index == 3:
            raise ValueError("scene-0003.pcd.bin: truncated")
        return super().sample(index, rng)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_arrives_with_its_message(workers):
    batches = train_batches(
        Broken(4),
        batch_size_per_device=4,
        num_devices=1,
        capacities=CAPACITIES,
        seed=0,
        workers=workers,
        collate=collate_numbers,
    )
    with pytest.raises(ValueError, match=r"scene-0003.pcd.bin: truncated"):
        next(iter(batches))


@pytest.fixture
def source(tiny_keyframes: list[Keyframe], tiny_dumps) -> TriModalSource:
    return TriModalSource(tiny_keyframes, tiny_dumps)


def tri_modal_batches(source: TriModalSource, **changes):
    settings = {"capacities": CAPACITIES, "seed": 1, "num_epochs": 2, "workers": 2}
    return train_batches(
        source,
        collate=collate_tri_modal,
        batch_size_per_device=1,
        num_devices=2,
        **(settings | changes),
    )


def test_real_batches_resume_bit_for_bit(source):
    whole = list(tri_modal_batches(source))
    assert len(whole) == 4
    assert whole[0]["features"].shape == (2, 1024, 1)
    assert_equal(list(tri_modal_batches(source, workers=1).starting_at(1)), whole[1:])


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_give_the_same_batches_whatever_their_number(source, workers):
    """Also from a step on that other numbers of threads or processes came to."""
    threads = list(tri_modal_batches(source))
    batches = tri_modal_batches(source, workers=workers, processes=True)
    assert_equal(list(batches), threads)
    assert_equal(list(batches.starting_at(1)), threads[1:])
