"""The words of the kernels' language, said by one warp: what PTX and CUDA's guide say they do.

The same library, built by nvcc, says on a GPU whether the emulation says the same.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from tests.cuda import emulation

LANES = range(32)
EPSILON = np.finfo(np.float32).eps


class Warp:
    """The library of words.cu."""

    def __init__(self, path: Path) -> None:
        self.say = ctypes.CDLL(str(path)).say
        self.say.restype = ctypes.c_char_p
        pointer = ctypes.c_void_p
        self.say.argtypes = [
            *(ctypes.c_char_p, pointer, ctypes.c_int64, pointer, ctypes.c_int64, ctypes.c_int)
        ]

    def __call__(
        self, word: str, given: np.ndarray, results: int, parameter: int = 0
    ) -> np.ndarray:
        """uint32 [32, results]."""
        given = np.ascontiguousarray(given).view(np.uint32)
        out = np.zeros((32, results), np.uint32)
        error = self.say(
            *(word.encode(), given.ctypes.data, given.size, out.ctypes.data, out.size, parameter)
        )
        assert error is None, error
        return out


@pytest.fixture(scope="module")
def warp() -> Warp:
    return Warp(emulation.build("words", [Path(__file__).parent / "words.cu"]))


def rounded(x: np.ndarray, bits: int, half_away: bool) -> np.ndarray:
    """To the nearest numbers of `bits` significant bits, halves away from zero or to even ones."""
    mantissa, exponent = np.frexp(x)
    scaled = mantissa * 2.0**bits
    whole = np.sign(scaled) * np.floor(np.abs(scaled) + 0.5) if half_away else np.rint(scaled)
    return np.ldexp(whole, exponent - bits)


def bfloat16_bits(x: np.ndarray) -> np.ndarray:
    """uint32 [...] of float32 numbers that bfloat16 can hold."""
    return x.astype(np.float32).view(np.uint32) >> 16


def fragment(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[32, registers] of a matrix, whose places are given by lane and register."""
    return matrix[rows, columns]


# Of lane l: "group" l / 4 and "thread in group" l % 4, as PTX calls them.
GROUP, THREAD = np.divmod(np.arange(32), 4)
SUM_ROWS = np.stack([GROUP, GROUP, GROUP + 8, GROUP + 8], 1)
SUM_COLUMNS = np.stack([2 * THREAD, 2 * THREAD + 1] * 2, 1)


def factors(rng: np.random.Generator, depth: int, bits: int) -> tuple[np.ndarray, ...]:
    """float32 a [16, depth], b [depth, 8], c [16, 8], no two numbers of which are the same."""
    mantissas = np.arange(2.0 ** (bits - 1), 2.0**bits)
    numbers = np.concatenate([s * np.ldexp(mantissas, e) for s in (-1, 1) for e in range(-10, -6)])
    values = rng.choice(numbers, 24 * depth + 16 * 8, replace=False).astype(np.float32)
    a, b, c = np.split(values, [16 * depth, 24 * depth])
    return a.reshape(16, depth), b.reshape(depth, 8), c.reshape(16, 8)


def check_product(sums: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """Sums in float32, in any order: each addition may round what there is so far."""
    got = sums.view(np.float32)
    wide_a, wide_b, wide_c = (x.astype(np.float64) for x in (a, b, c))
    expected = fragment(wide_a @ wide_b + wide_c, SUM_ROWS, SUM_COLUMNS)
    largest = fragment(np.abs(wide_a) @ np.abs(wide_b) + np.abs(wide_c), SUM_ROWS, SUM_COLUMNS)
    assert np.all(np.abs(got - expected) <= a.shape[1] * EPSILON * largest)


def tf32_fragments(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (
        np.stack([GROUP, GROUP + 8] * 2, 1),
        np.stack([THREAD] * 2 + [THREAD + 4] * 2, 1),
    )
    depths = np.stack([THREAD, THREAD + 4], 1)
    of_b = fragment(b, depths, np.stack([GROUP] * 2, 1))
    return fragment(a, rows, columns).view(np.uint32), of_b.view(np.uint32)


def bfloat16_fragments(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.stack([GROUP, GROUP + 8] * 2, 1)
    columns = np.stack([2 * THREAD] * 2 + [2 * THREAD + 8] * 2, 1)
    depths, of_lane = np.stack([2 * THREAD, 2 * THREAD + 8], 1), np.stack([GROUP] * 2, 1)
    bits_a, bits_b = bfloat16_bits(a), bfloat16_bits(b)
    pairs_a = bits_a[rows, columns] | bits_a[rows, columns + 1] << 16
    return pairs_a, bits_b[depths, of_lane] | bits_b[depths + 1, of_lane] << 16


@pytest.mark.parametrize(
    ("word", "depth", "bits", "fragments"),
    [("multiply_tf32", 8, 11, tf32_fragments), ("multiply_bfloat16", 16, 8, bfloat16_fragments)],
)
def test_tensor_cores_multiply_fragments_as_ptx_says(warp, word, depth, bits, fragments):
    rng = np.random.default_rng(0)
    for _ in range(4):
        a, b, c = factors(rng, depth, bits)
        of_c = fragment(c, SUM_ROWS, SUM_COLUMNS).view(np.uint32)
        check_product(warp(word, np.concatenate([*fragments(a, b), of_c], 1), 4), a, b, c)


@pytest.mark.parametrize("word", ["multiply_tf32", "multiply_bfloat16"])
def test_every_place_of_a_fragment_is_its_own(warp, word):
    """One number of a and one of b at a time: their product comes where it belongs, alone."""
    tf32 = word == "multiply_tf32"
    depth, fragments = (8, tf32_fragments) if tf32 else (16, bfloat16_fragments)
    for k in range(depth):
        for i in range(16):
            a, b = np.zeros((16, depth), np.float32), np.zeros((depth, 8), np.float32)
            j = (3 * i + k) % 8
            a[i, k], b[k, j] = 3.0, 5.0
            given = np.concatenate([*fragments(a, b), np.zeros((32, 4), np.uint32)], 1)
            sums = np.zeros((16, 8), np.float32)
            sums[i, j] = 15.0
            got = warp(word, given, 4).view(np.float32)
            np.testing.assert_array_equal(got, fragment(sums, SUM_ROWS, SUM_COLUMNS))


def test_tensor_cores_do_not_see_what_tf32_leaves_out(warp):
    a, b, c = factors(np.random.default_rng(1), 8, 11)
    given = np.concatenate([*tf32_fragments(a, b), np.zeros((32, 4), np.uint32)], 1)
    expected = warp("multiply_tf32", given, 4)
    given[:, :6] |= 0x1FFF
    np.testing.assert_array_equal(warp("multiply_tf32", given, 4), expected)


def edges(bits: int) -> np.ndarray:
    """float32 numbers around the middle between two that have `bits` significant bits."""
    rng = np.random.default_rng(2)
    whole = rng.integers(2 ** (bits - 1), 2**bits, 96) + rng.choice([0.5, 0.25, 0.75, 0.0], 96)
    nearby = np.nextafter(whole.astype(np.float32), np.float32(np.inf))
    numbers = np.concatenate([whole, nearby, rng.normal(size=64)])
    return (numbers * 2.0 ** rng.integers(-20, 20, 256)).astype(np.float32)


def test_numbers_are_rounded_as_the_instructions_say(warp):
    most = np.finfo(np.float32).max
    special = np.array([0.0, -0.0, np.inf, -np.inf, most, -most, 1e-30, 1.0], np.float32)
    x = np.concatenate([edges(11), edges(8), np.resize(special, 32)])
    wide = x.astype(np.float64)
    out = warp("roundings", x, 2 * len(x) // 32, len(x) // 32).reshape(-1, 2)
    finite = np.isfinite(x) & (np.abs(x) < most)
    np.testing.assert_array_equal(
        out[finite, 0].view(np.float32), rounded(wide, 11, half_away=True)[finite]
    )
    low, high = ((out[:, 1] & 0xFFFF) << 16).view(np.float32), (out[:, 1] & 0xFFFF0000)
    nearest = rounded(wide, 8, half_away=False)
    np.testing.assert_array_equal(low[finite], nearest[finite])
    np.testing.assert_array_equal(high.view(np.float32)[finite], -nearest[finite])
    # Beyond the largest number lies infinity; zeros keep their signs.
    beyond = np.sign(x[~finite]) * np.float32(np.inf)
    np.testing.assert_array_equal(out[~finite, 0].view(np.float32), beyond)
    np.testing.assert_array_equal(low[~finite], beyond)
    np.testing.assert_array_equal(np.signbit(low), np.signbit(x))
    nan = warp("roundings", np.full(32, np.nan, np.float32), 2, 1)
    assert np.isnan(nan[:, 0].view(np.float32)).all()
    assert np.isnan((nan[:, 1] << 16).view(np.float32)).all()


@pytest.mark.parametrize("word", ["load_matrices_of_float", "load_matrices"])
def test_matrices_are_loaded_by_fragments(warp, word):
    lines = np.arange(1, 129, dtype=np.uint32).reshape(4, 8, 4) * 0x00010203
    expected = [[lines[m, lane // 4, lane % 4] for m in range(4)] for lane in LANES]
    np.testing.assert_array_equal(warp(word, lines, 4), expected)


def test_matrices_are_loaded_by_fragments_and_turned_over(warp):
    numbers = np.arange(1, 257, dtype=np.uint16).reshape(4, 8, 8)
    expected = [
        [
            int(numbers[m, 2 * (lane % 4), lane // 4])
            | int(numbers[m, 2 * (lane % 4) + 1, lane // 4]) << 16
            for m in range(4)
        ]
        for lane in LANES
    ]
    np.testing.assert_array_equal(warp("load_matrices_transposed", numbers, 4), expected)


@pytest.mark.parametrize("width", [32, 16, 8, 2, 1])
@pytest.mark.parametrize("far", [0, 1, 3, 17])
def test_lanes_shuffle(warp, width, far):
    rng = np.random.default_rng(width)
    values = rng.integers(0, 2**32, 32, np.uint32)
    sources = rng.integers(0, 64, 32).astype(np.uint32)
    sources[0] = far
    got = warp("shuffles", np.stack([values, sources], 1), 6, width)
    for lane in LANES:
        first = lane // width * width
        within = range(first, first + width)
        up, down, other = lane - far, lane + far, lane ^ far
        expected = [
            values[first + int(sources[lane]) % width],
            values[up if up in within else lane],
            values[down if down in within else lane],
            # The other way round, lanes of earlier groups can be reached.
            values[other if other < first + width else lane],
            values[min(lane + 1, 31)],
            min(lane + 1, 31),
        ]
        np.testing.assert_array_equal(got[lane], expected)


@pytest.mark.parametrize("mask", [0xFFFFFFFF, 0x0000FFFF, 0x80000001, 0x00FF00F0])
@pytest.mark.parametrize("values", ["mixed", "odd", "even"])
def test_lanes_vote(warp, mask, values):
    rng = np.random.default_rng(3)
    numbers = rng.integers(0, 2**20, 32).astype(np.uint32) * 2
    numbers += {"odd": 1, "even": 0, "mixed": rng.integers(0, 2, 32).astype(np.uint32)}[values]
    votes = [bool(numbers[lane] % 2) for lane in LANES]
    named = [bool(mask >> lane & 1) for lane in LANES]
    ballot = sum(1 << lane for lane in LANES if votes[lane] and named[lane])
    signed = int(np.uint32(mask).astype(np.int32))
    got = warp("votes", numbers, 3, signed)
    expected = [ballot, ballot != 0, ballot == mask]
    for lane in LANES:
        np.testing.assert_array_equal(got[lane], expected if named[lane] else [0, 0, 0])


def test_bits_are_counted(warp):
    numbers = np.array([0, 1, 0x80000000, 0xFFFFFFFF, *(3 << i for i in range(28))], np.uint32)
    expected = [
        [n.bit_count(), (n & -n).bit_length(), 32 - n.bit_length()] for n in map(int, numbers)
    ]
    np.testing.assert_array_equal(warp("bits", numbers, 3), expected)


def test_atomics_lose_nothing(warp):
    before = np.array([7, 99, 0x100, 1, 0, 0], np.uint32)
    out = warp("atomics", before, 2).ravel()
    mine = np.arange(32) + 5
    assert list(out[:5]) == [7 + mine.sum(), 5, 0xFFFFFFFF, 14, 0]
    # What lanes saw are the sums of those before them, in some order.
    seen = np.argsort(out[6:38])
    np.testing.assert_array_equal(out[6:38][seen], 7 + np.cumsum(mine[seen]) - mine[seen])


@pytest.mark.parametrize("at_once", [4, 8, 16])
def test_copies_land_or_leave_zeros(warp, at_once):
    numbers = np.arange(1, 129, dtype=np.uint32)
    things = np.arange(128) // (at_once // 4)
    expected = np.where(things % 3 != 0, numbers, 0)[::-1]
    np.testing.assert_array_equal(warp("copies", numbers, 4, at_once).ravel(), expected)
