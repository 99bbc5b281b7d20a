"""The input pipeline: order, randomness, resumption and errors."""

from __future__ import annotations

import time

import jax
import numpy as np
import pytest

from tests.input.sources import Numbers, collate_numbers
from uov_jax import sparse
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.input import loader
from uov_jax.input.batching import Capacities
from uov_jax.input.loader import train_batches
from uov_jax.input.tri_modal import TriModalSource, collate_tri_modal

CAPACITIES = Capacities(
    plans=(sparse.PlanSpec(1024, fractions=(1.0,) * 5),), pairs=(2048,), superpoints=(64,)
)


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
    for x, y in zip(jax.tree.leaves(without(a)), jax.tree.leaves(without(b)), strict=True):
        np.testing.assert_array_equal(x, y)


def without(batches):
    """All but the process that built them."""
    if isinstance(batches, dict):
        return {name: array for name, array in batches.items() if name != "process"}
    return [without(batch) for batch in batches] if isinstance(batches, list) else batches


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

    loader._order.cache_clear()
    monkeypatch.setattr(np.random, "default_rng", record)
    steps = numbers(length=4).steps
    steps.batch(epoch)
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


@pytest.mark.parametrize(
    ("devices", "hosts", "micro"), [(4, 1, 1), (1, 2, 2), (2, 1, 2), (1, 1, 4)]
)
def test_a_step_is_one_sequence_of_samples_in_every_spread(devices, hosts, micro):
    """Micro-batches take equal parts of it, in each the hosts, and of these the devices."""
    whole = [batch["index"].ravel() for batch in numbers(length=27, sweeps=8, devices=1)]
    assert len(whole) == 9
    sweeps = 8 // (devices * hosts * micro)
    spread = {"length": 27, "sweeps": sweeps, "devices": devices}
    parts = [
        numbers(**spread, num_hosts=hosts, host=host, micro_batches=micro) for host in range(hosts)
    ]
    for step, expected in enumerate(whole):
        built = [part.steps.batch(step) for part in parts]
        if micro > 1:
            assert all(isinstance(each, tuple) and len(each) == micro for each in built)
        found = [
            one["index"].ravel()
            for number in range(micro)
            for one in ((each[number] if micro > 1 else each) for each in built)
        ]
        np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_micro_batches_come_together(workers):
    batches = numbers(length=16, sweeps=2, devices=2, micro_batches=2, workers=workers)
    assert batches.steps_per_epoch == 2
    found = list(batches.starting_at(1))
    assert [len(step) for step in found] == [2] * 5
    assert found[0][1]["index"].shape == (2, 2)


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


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_give_the_same_batches_whatever_their_number(source, workers):
    """Also from a step on that other numbers of threads or processes came to."""
    threads = list(tri_modal_batches(source))
    batches = tri_modal_batches(source, workers=workers, processes=True)
    first = workers % 3  # once from the beginning on, and once from the second step
    assert_equal(list(batches.starting_at(first)), threads[first:])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_sizes_of_batches_are_agreed_on_step_by_step(source, workers):
    larger = sparse.PlanSpec(2048, fractions=(1.0,) * 5)
    series = Capacities((*CAPACITIES.plans, larger), (2048, 4096), (64, 128))
    whole = list(tri_modal_batches(source, capacities=series.largest()))
    asked = []

    def agree(step, size):
        asked.append((step, size))
        return int(step == 2)

    batches = tri_modal_batches(source, capacities=series, workers=workers, num_epochs=2)
    found = list(batches.starting_at(1, agree))
    assert asked == [(1, 0), (2, 0), (3, 0)]
    assert [batch["features"].shape[1] for batch in found] == [1024, 2048, 1024]
    assert_equal(found[1], whole[2])


def test_agreeing_is_asked_for_batches_of_one_shape_too():
    asked = []
    batches = numbers(capacities=None)
    assert len(list(batches.starting_at(3, lambda *each: asked.append(each)))) == 3
    assert asked == [(3, 0), (4, 0), (5, 0)]


@pytest.mark.parametrize("micro", [1, 2])
def test_micro_batches_take_the_largest_size_that_one_of_a_step_needs(micro):
    series = Capacities(
        tuple(sparse.PlanSpec(n, fractions=(1.0,) * 5) for n in (100, 200, 300)), (1,) * 3, (1,) * 3
    )

    def collate(samples, capacities, allocate):
        # As many rows as the sample's number says.
        spec = capacities.plans[samples[0][0][0] % 2]
        return {"plan": sparse.empty_plan(spec, 1, np.zeros)}

    batches = train_batches(
        Numbers(4), collate=collate, batch_size_per_device=1, num_devices=1, capacities=series,
        seed=0, num_epochs=1, workers=0, micro_batches=micro,
    )  # fmt: skip
    asked = []

    def agree(step, size):
        asked.append(size)
        return size

    found = list(batches.starting_at(0, agree))
    numbers_of = [batches.steps.indices(step)[:, 0, 0] % 2 for step in range(4 // micro)]
    assert asked == [max(sizes) for sizes in numbers_of]
    for step, size in zip(found, asked, strict=True):
        parts = step if micro > 1 else (step,)
        assert [part["plan"].coords[0].shape[1] for part in parts] == [100 * (size + 1)] * micro


def test_hosts_whose_sizes_differ_have_other_fingerprints(source):
    one = tri_modal_batches(source).fingerprint()
    assert one == tri_modal_batches(source, workers=0).fingerprint()
    other = Capacities(CAPACITIES.plans, (4096,), CAPACITIES.superpoints)
    assert tri_modal_batches(source, capacities=other).fingerprint() != one


def test_the_caller_is_told_how_long_it_waited():
    batches = iter(numbers(workers=1))
    assert batches.wait_seconds == 0
    next(batches)
    assert batches.wait_seconds > 0


def test_waiting_for_other_hosts_is_no_waiting_for_data():
    agreeing = []

    def agree(step, size):
        began = time.perf_counter()
        time.sleep(0.1)
        agreeing.append(time.perf_counter() - began)
        return size

    batches = numbers(capacities=None, workers=0).starting_at(0, agree)
    began = time.perf_counter()
    next(batches)
    assert 0 < batches.wait_seconds <= time.perf_counter() - began - sum(agreeing)


@pytest.mark.parametrize("workers", [0, 2])
def test_closed_batches_are_at_their_end(workers):
    batches = iter(numbers(workers=workers))
    next(batches)
    batches.close()
    assert list(batches) == []
