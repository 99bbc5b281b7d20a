"""A simulated 2D teacher: the true image labels with the mistakes that real teachers make.

This is no network. It looks at the simulator's own label images and spoils them, so that the
simulated drive can stand in for a real one with a real teacher's dumps. Whatever is learned from
it says that the code works, nothing of how well a method does on real data.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uov_jax.dumps.file import CameraMasks
from uov_jax.dumps.folder import DumpManifest
from uov_jax.errors import InputError
from uov_jax.simulate.camera import RAY_STEP, View
from uov_jax.simulate.kinds import KIND, KINDS
from uov_jax.simulate.sensors import CAMERA_MODELS
from uov_jax.vocabulary import Vocabulary

NAME = "simulated"
EMBEDDING_SIZE = 768

# Shares of a word's vector (squared lengths): what all words have in common, what the words of a
# family of groups (vehicles, people, ...), of a group, and of the word alone have.
_COMMON, _FAMILY, _GROUP, _WORD = 0.62, 0.06, 0.17, 0.15

# Families of raw labels whose words are nearer to each other than to the rest.
_FAMILIES: tuple[tuple[int, ...], ...] = (
    (13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23),
    (1, 2, 3, 4, 5, 6, 7, 8),
    (9, 10, 11, 12),
    (24, 25, 26, 27),
    (28, 30),
    (29, 31),
)

# What a teacher takes one kind for: kinds and how often. Drawn anew for every mask.
_CONFUSIONS: dict[str, tuple[tuple[str, float], ...]] = {
    "car": (("truck", 0.05), ("police_car", 0.03), ("bus", 0.02)),
    "police_car": (("car", 0.6),),
    "ambulance": (("car", 0.3), ("truck", 0.2)),
    "truck": (("car", 0.14), ("bus", 0.09), ("trailer", 0.09), ("construction_vehicle", 0.06)),
    "bus": (("truck", 0.16), ("car", 0.06), ("trailer", 0.03)),
    "bendy_bus": (("bus", 0.4), ("truck", 0.1)),
    "trailer": (("truck", 0.30), ("bus", 0.06), ("building", 0.06), ("car", 0.03)),
    "construction_vehicle": (("truck", 0.24), ("debris", 0.05), ("car", 0.05), ("building", 0.05)),
    "motorcycle": (("bicycle", 0.20), ("adult", 0.04), ("car", 0.03)),
    "bicycle": (("motorcycle", 0.17), ("adult", 0.06), ("bicycle_rack", 0.05)),
    "bicycle_rack": (("bicycle", 0.4), ("fence", 0.3)),
    "adult": (("child", 0.08), ("bicycle", 0.03), ("pole", 0.03)),
    "child": (("adult", 0.5),),
    "construction_worker": (("adult", 0.5), ("traffic_cone", 0.04)),
    "police_officer": (("adult", 0.6),),
    "traffic_cone": (("barrier", 0.12), ("pole", 0.09), ("debris", 0.04)),
    "barrier": (("wall", 0.22), ("fence", 0.08), ("traffic_cone", 0.03)),
    "debris": (("traffic_cone", 0.1), ("wall", 0.2)),
    "pushable": (("trash_bin", 0.4),),
    "stroller": (("adult", 0.3),),
}

# For regions without countable parts: what pieces of them are taken for, and how often a piece is.
_STUFF_CONFUSIONS: dict[str, tuple[tuple[str, float], ...]] = {
    "road": (("sidewalk", 0.05), ("rail_track", 0.015)),
    "sidewalk": (("road", 0.20), ("grass", 0.06), ("low_stairs", 0.02)),
    "bike_path": (("road", 0.35), ("sidewalk", 0.1)),
    "grass": (("sidewalk", 0.11), ("bush", 0.10), ("road", 0.04)),
    "soil": (("sidewalk", 0.2), ("road", 0.15)),
    "rail_track": (("road", 0.25), ("sidewalk", 0.15), ("grass", 0.08)),
    "low_stairs": (("sidewalk", 0.35), ("building", 0.25)),
    "building": (("tree", 0.03), ("truck", 0.015)),
    "wall": (("barrier", 0.08),),
    "fence": (("barrier", 0.12), ("bush", 0.1)),
    "tree": (("building", 0.08), ("grass", 0.015)),
    "bush": (("grass", 0.15), ("building", 0.05)),
    "potted_plant": (("building", 0.1),),
    "sky": (("building", 0.01),),
}


@dataclass(frozen=True)
class TeacherSettings:
    """How often and how badly the teacher errs; lengths in pixels of a 1600 x 900 image."""

    border_shift: float = 4.0
    cell: int = 6
    missed_below: float = 200.0
    missed_always: float = 0.03
    confusion: float = 0.7
    piece_confusion: float = 0.75
    wrong_word: float = 0.12
    merged: float = 0.6
    void: float = 0.05
    embedding_noise: float = 0.7
    leaning: float = 0.35

    @property
    def hash(self) -> str:
        """sha256 of everything that decides what this teacher says."""
        tables = [dataclasses.asdict(self), _CONFUSIONS, _STUFF_CONFUSIONS, _FAMILIES]
        shares = [_COMMON, _FAMILY, _GROUP, _WORD]
        return hashlib.sha256(json.dumps([tables, shares]).encode()).hexdigest()


def text_embeddings(vocabulary: Vocabulary, seed: int = 0) -> NDArray[np.float32]:
    """float32[W, 768]: a unit vector for every word, arranged like CLIP's.

    All words share a large common part. Cosines are about 0.62 between unlike groups, 0.68 within
    a family such as the vehicles, 0.85 within a group, and 1 for a word that stands twice.
    """
    generator = np.random.default_rng([seed, 768])

    def directions(count: int) -> NDArray[np.float64]:
        rows = generator.normal(size=(count, EMBEDDING_SIZE))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    family_of = {raw: number for number, family in enumerate(_FAMILIES) for raw in family}
    family = np.array(
        [family_of.get(int(raw), len(_FAMILIES)) for raw in vocabulary.word_raw_index]
    )
    first = np.array([vocabulary.words.index(word) for word in vocabulary.words])
    rows = (
        np.sqrt(_COMMON) * directions(1)
        + np.sqrt(_FAMILY) * directions(len(_FAMILIES) + 1)[family]
        + np.sqrt(_GROUP) * directions(int(vocabulary.word_group.max()) + 1)[vocabulary.word_group]
        + np.sqrt(_WORD) * directions(len(vocabulary))
    )[first]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class SimulatedTeacher:
    """Turns a true view into masks with words and embeddings."""

    def __init__(self, vocabulary: Vocabulary, settings: TeacherSettings | None = None) -> None:
        self.vocabulary = vocabulary
        self.settings = settings or TeacherSettings()
        self.text = text_embeddings(vocabulary)
        self._words = [_fitting_words(vocabulary, kind) for kind in range(len(KINDS))]

    def manifest(self, width: int, height: int) -> DumpManifest:
        """What its dumps of images of that size have in common."""
        return DumpManifest(
            NAME,
            self.settings.hash,
            self.vocabulary.name,
            self.vocabulary.hash,
            EMBEDDING_SIZE,
            {camera.channel: (height, width) for camera in CAMERA_MODELS},
        )

    def segment(
        self, view: View, channel: str, token: str, generator: np.random.Generator
    ) -> CameraMasks:
        """The masks that this teacher would find in a view."""
        cell = self._cell(view)
        regions = self._miss(_regions(view, cell), generator)
        masks, words, true_words = self._name(regions, generator)
        _punch(masks, self.settings.void, generator)
        masks, kept = _renumbered(masks, len(words))
        words, true_words = words[kept], true_words[kept]
        masks = _enlarge(masks, view.kind.shape, cell, self.settings.border_shift, generator)
        full = np.repeat(np.repeat(masks, RAY_STEP, axis=0), RAY_STEP, axis=1)
        return CameraMasks(channel, token, full, words, self._embed(words, true_words, generator))

    def _cell(self, view: View) -> int:
        """Size of the teacher's own pixels, in values of the view."""
        return max(1, round(self.settings.cell * _scale(view.kind.shape) / RAY_STEP))

    def _miss(
        self, regions: NDArray[np.int32], generator: np.random.Generator
    ) -> NDArray[np.int32]:
        """Give some things, small ones above all, to what is beside them."""
        settings = self.settings
        areas = np.bincount(regions.ravel())
        for number in np.flatnonzero(areas[256:]) + 256:
            area = areas[number] * (1600 * 900) / regions.size
            missed = settings.missed_always + 0.9 * np.exp(-area / max(settings.missed_below, 1e-9))
            if generator.random() < missed:
                _fill_from_beside(regions, int(number), bool(generator.random() < 0.5))
        return regions

    def _name(
        self, regions: NDArray[np.int32], generator: np.random.Generator
    ) -> tuple[NDArray[np.uint16], NDArray[np.int32], NDArray[np.int32]]:
        """A word for every region, pieces of regions taken for others; like words joined.

        Returns the mask image, the word of each mask, and a word that would have been right.
        """
        masks = np.zeros(regions.shape, np.uint16)
        words: list[int] = []
        true_words: list[int] = []
        number_of_word: dict[int, int] = {}

        def number(word: int, truth: int, joined: bool) -> int:
            if joined and word in number_of_word:
                return number_of_word[word]
            words.append(word)
            true_words.append(truth)
            if joined or word not in number_of_word:
                number_of_word[word] = len(words)
            return len(words)

        lookup = np.zeros(int(regions.max()) + 1, np.uint16)
        present = np.flatnonzero(np.bincount(regions.ravel()))
        pieces: list[tuple[int, int, float]] = []
        for region in present.tolist():
            thing = region >= 256
            kind = (region - 256) % 64 if thing else region
            truth = self._word(kind, generator)
            taken = self._confused(kind, generator) if thing else kind
            word = truth if taken == kind else self._word(taken, generator)
            joined = not thing or generator.random() < self.settings.merged
            lookup[region] = number(word, truth, joined)
            if not thing:
                for other, share in _STUFF_CONFUSIONS.get(KINDS[kind].name, ()):
                    if share:
                        wrong = self._word(KIND[other], generator)
                        pieces.append((region, number(wrong, truth, True), share))
        masks[:] = lookup[regions]
        for region, mask, share in pieces:
            wrongly = share * self.settings.piece_confusion * generator.uniform(0.0, 2.0)
            blobs = _blobs(regions.shape, wrongly, generator)
            masks[(regions == region) & blobs] = mask
        return masks, np.array(words, np.int32), np.array(true_words, np.int32)

    def _word(self, kind: int, generator: np.random.Generator) -> int:
        """A word for a kind: one that fits, or now and then any of its group."""
        words = self._words[kind]
        chosen = int(words[generator.integers(len(words))])
        if generator.random() < self.settings.wrong_word:
            raw = self.vocabulary.word_raw_index[chosen]
            group = np.flatnonzero(self.vocabulary.word_raw_index == raw)
            chosen = int(group[generator.integers(len(group))])
        return chosen

    def _confused(self, kind: int, generator: np.random.Generator) -> int:
        draw = generator.random()
        for other, share in _CONFUSIONS.get(KINDS[kind].name, ()):
            draw -= share * self.settings.confusion
            if draw < 0:
                return KIND[other]
        return kind

    def _embed(
        self,
        words: NDArray[np.int32],
        true_words: NDArray[np.int32],
        generator: np.random.Generator,
    ) -> NDArray[np.float16]:
        """Unit vectors near the word's own, leaning a little to the word that was right."""
        lean = self.settings.leaning * generator.random((len(words), 1))
        rows = (1 - lean) * self.text[words] + lean * self.text[true_words]
        noise = generator.normal(size=rows.shape) / np.sqrt(EMBEDDING_SIZE)
        rows = (
            rows + self.settings.embedding_noise * generator.uniform(0.6, 1.4, lean.shape) * noise
        )
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return rows.astype(np.float16)


def _fitting_words(vocabulary: Vocabulary, kind: int) -> NDArray[np.int64]:
    """Indices of the words that fit a kind.

    Raises:
        InputError: the vocabulary has no word for it.

    """
    wanted = KINDS[kind]
    own = vocabulary.word_raw_index == wanted.raw
    if wanted.words:
        own &= np.isin(np.array(vocabulary.words), wanted.words)
    found = np.flatnonzero(own)
    if not len(found):
        raise InputError(
            f"vocabulary {vocabulary.name!r}: no word for {wanted.name!r} (raw label "
            f"{wanted.raw}); the simulated teacher speaks the nuScenes vocabulary"
        )
    return found


def _scale(shape: tuple[int, ...]) -> float:
    """Size of the images of these views relative to 1600 x 900."""
    return RAY_STEP * shape[1] / 1600


def _regions(view: View, cell: int) -> NDArray[np.int32]:
    """A number for every region, on a coarse grid as of a network's output.

    Below 256 it is the kind; a countable object has 256 + 64 * instance + kind.
    """
    countable = np.array([kind.countable for kind in KINDS])
    kind = view.kind[cell // 2 :: cell, cell // 2 :: cell].astype(np.int32)
    instance = view.instance[cell // 2 :: cell, cell // 2 :: cell]
    thing = countable[kind] & (instance > 0)
    return np.where(thing, 256 + 64 * instance + kind, kind).astype(np.int32)


@functools.lru_cache(maxsize=4)
def _smooth_noise(cells: int, size: int) -> NDArray[np.float32]:
    """float32[size, size]: repeating noise of unit variance that changes over size / cells."""
    generator = np.random.default_rng([11, cells, size])
    coarse = generator.normal(size=(cells, cells)).astype(np.float32)
    coarse = np.pad(coarse, ((0, 1), (0, 1)), mode="wrap")
    position = np.arange(size) * cells / size
    low, part = position.astype(int), (position % 1).astype(np.float32)
    rows = coarse[low] * (1 - part[:, None]) + coarse[low + 1] * part[:, None]
    noise = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return noise / noise.std()


def _noise_window(
    cells: int, shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.float32]:
    size = 2048
    top = int(generator.integers(0, size - shape[0]))
    left = int(generator.integers(0, size - shape[1]))
    return _smooth_noise(cells, size)[top : top + shape[0], left : left + shape[1]]


def _enlarge(
    masks: NDArray[np.uint16],
    shape: tuple[int, ...],
    cell: int,
    shift: float,
    generator: np.random.Generator,
) -> NDArray[np.uint16]:
    """Coarse masks at the view's size, borders pushed about smoothly by ``shift`` image pixels."""
    amount = shift * _scale(shape) / RAY_STEP
    down, across = (
        (amount * (_noise_window(96, shape, generator) + 0.4 * generator.normal())).astype(np.int32)
        for _ in range(2)
    )
    down += np.arange(shape[0], dtype=np.int32)[:, None]
    across += np.arange(shape[1], dtype=np.int32)
    rows = np.clip(down // cell, 0, masks.shape[0] - 1)
    columns = np.clip(across // cell, 0, masks.shape[1] - 1)
    return masks.ravel()[rows * masks.shape[1] + columns]


def _fill_from_beside(regions: NDArray[np.int32], number: int, from_left: bool) -> None:
    """Replace a region, row by row, by what is beside its bounding box."""
    inside = regions == number
    rows = np.flatnonzero(inside.any(axis=1))
    columns = np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return
    left, right = max(columns[0] - 1, 0), min(columns[-1] + 1, regions.shape[1] - 1)
    beside = regions[:, left if from_left else right]
    other = regions[:, right if from_left else left]
    beside = np.where(beside == number, other, beside)
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    filled = np.broadcast_to(beside[window[0], None], regions[window].shape)
    # A region from border to border has nothing beside it and stays.
    regions[window] = np.where(inside[window], filled, regions[window])


def _blobs(
    shape: tuple[int, ...], share: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Smooth patches that cover about that share of an image."""
    # About as many blobs across any image: the window is a part of the tile.
    noise = _noise_window(round(24 * 800 / shape[1]), shape, generator)
    return noise > _normal_quantile(1.0 - float(np.clip(share, 1e-4, 0.9999)))


def _normal_quantile(share: float) -> float:
    """The value that a standard normal stays below with that probability."""
    low, high = -6.0, 6.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        below = 1.0 / (1.0 + np.exp(-1.702 * middle))  # within 0.01 of the normal's
        low, high = (middle, high) if below < share else (low, middle)
    return low


def _punch(masks: NDArray[np.uint16], share: float, generator: np.random.Generator) -> None:
    """Holes where the teacher is sure of nothing."""
    masks[_blobs(masks.shape, share, generator)] = 0


def _renumbered(
    masks: NDArray[np.uint16], count: int
) -> tuple[NDArray[np.uint16], NDArray[np.intp]]:
    """Masks that still have pixels, numbered from 1, and which they were."""
    areas = np.bincount(masks.ravel(), minlength=count + 1)
    areas[0] = 0
    kept = np.flatnonzero(areas)
    lookup = np.zeros(len(areas), np.uint16)
    lookup[kept] = np.arange(1, len(kept) + 1)
    return lookup[masks], kept - 1
