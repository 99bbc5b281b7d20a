"""A simulated teacher of images of rooms: the true labels with the mistakes that dense CLIP makes.

This is no network. It looks at the simulator's own label images and spoils them: borders are
blurred to the size of a patch, like classes are taken for each other (always, by object, and by
view, the more the worse a thing is seen), and now and then a thing is called what no such room has.
Whatever is learned from it says that the code works, nothing of how well a method does on real
images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.rooms import words
from uov_jax.simulate.rooms.kinds import CLASS_NAMES, CLASS_OF_KIND, KINDS, NUM_CLASSES
from uov_jax.simulate.rooms.views import View
from uov_jax.vocabulary import Vocabulary

Float32 = NDArray[np.float32]
Generator = np.random.Generator
NAME = "simulated"
STRIDE = 4  # pixels between values of the masks
MOST_MASKS = 160  # 768 numbers each: 246 kB


@dataclass(frozen=True)
class TeacherSettings:
    """How often and how badly the teacher errs.

    Attributes:
        patch: pixels whose content a feature mixes.
        object_leaning: how differently objects of a class lean to other words, all views alike.
        view_leaning: how differently one object leans from view to view.
        object_mistaken: share of objects that are mostly taken for something else.
        view_mistaken: share of views of a well seen object in which it is taken for something else.
        anywhere: share of those mistakes that are of any class, not of like ones.
        badly_seen: how much more of both where an object is small, cut off or seen at a slant.
        style: length of what is particular to an object, beside all words.
        grain: the same of a view of it.
        context: share of the whole image in every feature.
        piece: pixels across which a large thing is one and the same.

    """

    patch: int = 16
    object_leaning: float = 0.16
    view_leaning: float = 0.22
    object_mistaken: float = 0.10
    view_mistaken: float = 0.16
    anywhere: float = 0.45
    badly_seen: float = 2.0
    style: float = 0.40
    grain: float = 0.40
    context: float = 0.12
    piece: int = 120

    @property
    def hash(self) -> str:
        """sha256 of everything that decides what this teacher says."""
        tables = [dataclasses.asdict(self), words.LEANINGS, words.HUBS, words.FAMILIES, words.PAIRS]
        shares = [words.COMMON, words.FAMILY, words.PAIR, words.WORD]
        shares += [words.IMAGE_COMMON, words.IMAGE_WORDS, words.IMAGE_OWN, words.COMMON_WITH_WORDS]
        return hashlib.sha256(json.dumps([tables, shares]).encode()).hexdigest()


class RoomTeacher:
    """Turns true views of one room into masks with embeddings."""

    def __init__(self, seed: int, room: int, settings: TeacherSettings | None = None) -> None:
        """Seed and number of the room decide what the teacher thinks of its objects."""
        self.settings = settings or TeacherSettings()
        self._looks, self._deviations = words.looks()
        self._key = (seed, room)
        self._objects: dict[int, Float32] = {}

    def text(self, vocabulary: Vocabulary) -> Float32:
        """float32[W, 768]: the words in this teacher's space."""
        return words.text_embeddings(vocabulary)

    def features(self, view: View, generator: Generator) -> tuple[NDArray[np.uint16], Float32]:
        """What the teacher says of a view.

        Returns:
            masks uint16[h, w] at a `STRIDE`-th of the view's size, 1..M, and float32[M, 768], unit
            rows.

        """
        regions, number = _regions(view, self.settings.piece // STRIDE, generator)
        pure = self._embed(view, regions, number, generator)
        average = np.bincount(number.ravel(), minlength=len(regions)) / number.size
        pure += self.settings.context * (average @ pure - pure)
        masks, parts = _blurred(number, len(regions), self.settings.patch / STRIDE)
        rows = parts @ pure
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return masks, rows.astype(np.float32)

    def _embed(
        self, view: View, regions: NDArray[np.int64], number: NDArray[np.intp], generator: Generator
    ) -> Float32:
        """float32[R, 768]: the feature of the middle of every region."""
        settings = self.settings
        slant = view.slant[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        size = np.bincount(number.ravel(), minlength=len(regions)).astype(np.float64)
        flat = np.bincount(number.ravel(), 1 - slant.ravel(), len(regions)) / size
        small = np.exp(-size * STRIDE**2 / (4 * settings.patch**2))
        badly = settings.badly_seen * (0.5 * small + 0.5 * flat**3)
        kinds = regions % len(KINDS)
        own = np.stack([self._object(int(region)) for region in regions // 64])
        # All pieces of an object are mistaken alike in one view.
        _, first, same = np.unique(regions // 64, return_index=True, return_inverse=True)
        wrong = np.stack(
            [
                self._mistaken(
                    int(CLASS_OF_KIND[kinds[at]]),
                    settings.view_mistaken * (1 + badly[at]),
                    generator,
                )
                for at in first
            ]
        )[same]
        lean = generator.normal(size=(len(regions), NUM_CLASSES)) * settings.view_leaning
        lean *= np.sqrt(1 + badly)[:, None]
        grain = generator.normal(size=own.shape) * settings.grain / np.sqrt(words.EMBEDDING_SIZE)
        rows = own + (wrong + lean) @ self._deviations * np.sqrt(words.IMAGE_WORDS) + grain
        return rows.astype(np.float32)

    def _object(self, key: int) -> Float32:
        """float32[768]: what is the same of an object in all views."""
        if key not in self._objects:
            generator = np.random.default_rng([*self._key, 7, key])
            settings, kind = self.settings, key % len(KINDS)
            lean = generator.normal(size=NUM_CLASSES) * settings.object_leaning
            lean += self._mistaken(int(CLASS_OF_KIND[kind]), settings.object_mistaken, generator)
            style = generator.normal(size=words.EMBEDDING_SIZE) * settings.style
            self._objects[key] = (
                self._looks[kind]
                + np.sqrt(words.IMAGE_WORDS) * (lean @ self._deviations)
                + style / np.sqrt(words.EMBEDDING_SIZE)
            ).astype(np.float32)
        return self._objects[key]

    def _mistaken(self, truth: int, share: float, generator: Generator) -> NDArray[np.float64]:
        """float64[20]: what is added to words where a thing is mistaken; zeros mostly."""
        change = np.zeros(NUM_CLASSES)
        if generator.random() < share:
            other = int(generator.integers(NUM_CLASSES))
            if truth and generator.random() >= self.settings.anywhere:
                like = words.LEANINGS[CLASS_NAMES[truth - 1]]
                other = CLASS_NAMES.index(like[generator.integers(len(like))][0])
            strength = generator.uniform(0.4, 1.1)
            change[other] += strength
            if truth:
                change[truth - 1] -= 0.6 * strength
        return change


def _regions(
    view: View, piece: int, generator: Generator
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Regions of a view on a coarse grid: objects, large ones in pieces.

    Returns:
        int64[R]: (object * kinds + kind) * 64 + piece; intp[h, w]: the region of every cell.

    """
    kind = view.kind[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].astype(np.int64)
    things = view.object[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].astype(np.int64)
    shift = generator.integers(0, piece, 2)
    rows = (np.arange(kind.shape[0]) + shift[0]) // piece
    columns = (np.arange(kind.shape[1]) + shift[1]) // piece
    tile = (rows[:, None] * 8 + columns) % 64
    codes = (things * len(KINDS) + kind) * 64 + tile
    regions, number = np.unique(codes, return_inverse=True)
    return regions, number.reshape(kind.shape)


def _blurred(
    number: NDArray[np.intp], count: int, patch: float
) -> tuple[NDArray[np.uint16], Float32]:
    """Mixtures of the two regions that a patch around each cell has most of.

    Returns:
        uint16[h, w]: 1 + the mixture of each cell; float32[M, count]: shares of the regions.

    """
    reach = max(1, round(patch / 2))
    shares = np.zeros((count, *number.shape), np.float32)
    np.put_along_axis(shares, number[None], 1.0, axis=0)
    for axis in (1, 2):
        for _ in range(2):
            shares = _box_mean(shares, reach, axis)
    first = shares.argmax(axis=0)
    most = np.take_along_axis(shares, first[None], 0)[0]
    np.put_along_axis(shares, first[None], -1.0, axis=0)
    second = shares.argmax(axis=0)
    less = np.maximum(np.take_along_axis(shares, second[None], 0)[0], 0.0)
    quarter = np.rint(4 * less / np.maximum(most + less, 1e-6)).astype(np.int64)
    second = np.where(quarter == 0, first, second)
    codes = (first * count + second) * 4 + quarter
    mixtures, cells, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    cells = cells.reshape(number.shape)
    parts = np.zeros((len(mixtures), count), np.float32)
    row = np.arange(len(mixtures))
    share = (mixtures % 4).astype(np.float32) / 4
    parts[row, mixtures // 4 // count] += 1 - share
    parts[row, mixtures // 4 % count] += share
    if len(mixtures) > MOST_MASKS:
        # The rarest are taken for what is most like them.
        kept = np.sort(np.argsort(-sizes, kind="stable")[:MOST_MASKS])
        taken_for = (parts @ parts[kept].T).argmax(axis=1)
        taken_for[kept] = np.arange(len(kept))
        cells, parts = taken_for[cells], parts[kept]
    return (cells + 1).astype(np.uint16), parts


def _box_mean(values: Float32, reach: int, axis: int) -> Float32:
    """Means of 2 * reach + 1 neighbours along an axis; the last value goes on beyond the border."""
    pad = [(0, 0)] * values.ndim
    pad[axis] = (reach + 1, reach)
    total = np.cumsum(np.pad(values, pad, mode="edge"), axis=axis, dtype=np.float32)
    length = values.shape[axis]
    width = 2 * reach + 1
    upper = np.take(total, np.arange(width, width + length), axis=axis)
    lower = np.take(total, np.arange(length), axis=axis)
    return (upper - lower) / np.float32(width)
