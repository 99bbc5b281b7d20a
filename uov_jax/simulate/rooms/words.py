"""Words and appearances of the simulated teacher: unit vectors arranged like CLIP's.

All words share a large common part, and so do all appearances, but not the same one: that is the
gap between the two that CLIP has. What a class looks like leans, always in the same way, towards
the words of like classes. It also has a part of its own that no word points at: a network that is
trained on labels can learn from that what the words alone get wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.rooms.kinds import CLASS_NAMES, KINDS
from uov_jax.vocabulary import Vocabulary

Float32 = NDArray[np.float32]
EMBEDDING_SIZE = 768

# Shares of a word's vector (squared lengths): what all words have in common, what those of a family
# have, those of a pair, and the word alone.
COMMON, FAMILY, PAIR, WORD = 0.62, 0.10, 0.10, 0.18
FAMILIES = (
    ("table", "desk", "counter"),
    ("chair", "sofa", "bed"),
    ("cabinet", "bookshelf", "refrigerator", "otherfurniture"),
    ("curtain", "shower curtain"),
    ("wall", "door", "window", "picture"),
    ("toilet", "sink", "bathtub"),
    ("floor",),
)
PAIRS = (
    ("table", "desk"),
    ("chair", "sofa"),
    ("cabinet", "otherfurniture"),
    ("curtain", "shower curtain"),
    ("door", "wall"),
    ("toilet", "bathtub"),
    ("window", "picture"),
)

# How far the looks of a class lean to the words of others, always: shares of its own word's part.
LEANINGS: dict[str, tuple[tuple[str, float], ...]] = {
    "wall": (("door", 0.14), ("window", 0.08)),
    "floor": (("wall", 0.10),),
    "cabinet": (("refrigerator", 0.16), ("door", 0.14), ("counter", 0.12)),
    "bed": (("sofa", 0.30),),
    "chair": (("sofa", 0.22), ("table", 0.10)),
    "sofa": (("bed", 0.24), ("chair", 0.30)),
    "table": (("desk", 0.40),),
    "door": (("cabinet", 0.28), ("wall", 0.18)),
    "window": (("curtain", 0.18), ("door", 0.12)),
    "bookshelf": (("cabinet", 0.42),),
    "picture": (("window", 0.30), ("wall", 0.12)),
    "counter": (("cabinet", 0.30), ("table", 0.24)),
    "desk": (("table", 0.53),),
    "curtain": (("window", 0.22), ("shower curtain", 0.24)),
    "refrigerator": (("cabinet", 0.36), ("door", 0.12)),
    "shower curtain": (("curtain", 0.54),),
    "toilet": (("sink", 0.24),),
    "sink": (("bathtub", 0.22), ("counter", 0.22)),
    "bathtub": (("sink", 0.38), ("bed", 0.12)),
    "otherfurniture": (("cabinet", 0.36), ("chair", 0.16), ("table", 0.12)),
}
# Words that every look leans to a little: CLIP has such hubs.
HUBS = (("picture", 0.05), ("door", 0.05), ("counter", 0.04))

# Shares of a look (squared lengths): what all have in common, what points to words, and its own.
IMAGE_COMMON, IMAGE_WORDS, IMAGE_OWN = 0.66, 0.20, 0.14
COMMON_WITH_WORDS = 0.35  # cosine between what all looks and what all words have in common


def text_embeddings(vocabulary: Vocabulary, seed: int = 0) -> Float32:
    """float32[W, 768]: a unit vector for every word of the ScanNet vocabulary, in its order."""
    common, deviations = _word_parts(seed)
    rows = np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * deviations
    rows = rows[vocabulary.word_eval_class - 1]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def looks(seed: int = 0) -> tuple[Float32, Float32]:
    """The mean look of every kind of surface, and where the words' own parts point.

    Returns:
        float32[kinds, 768], about of unit length; float32[20, 768], of unit length.

    """
    common, deviations = _word_parts(seed)
    generator = np.random.default_rng([seed, 769])
    own = _directions(len(KINDS) + 1, generator)
    shared = COMMON_WITH_WORDS * common + np.sqrt(1 - COMMON_WITH_WORDS**2) * own[-1]
    leaning = leaning_shares()
    toward = np.stack([_blend(leaning, kind.name, kind.like) for kind in KINDS]) @ deviations
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    rows = (
        np.sqrt(IMAGE_COMMON) * shared
        + np.sqrt(IMAGE_WORDS) * toward
        + np.sqrt(IMAGE_OWN) * own[:-1]
    )
    return rows.astype(np.float32), deviations.astype(np.float32)


def leaning_shares() -> NDArray[np.float64]:
    """float64[20, 20]: how much of each word is in the look of each class."""
    number = {name: index for index, name in enumerate(CLASS_NAMES)}
    shares = np.eye(len(CLASS_NAMES))
    for name, others in LEANINGS.items():
        row = shares[number[name]]
        row[number[name]] = 1 - sum(share for _, share in others)
        for other, share in others:
            row[number[other]] += share
    for hub, share in HUBS:
        shares[:, number[hub]] += share
    return shares


def _blend(shares: NDArray[np.float64], name: str, like: tuple[str, ...]) -> NDArray[np.float64]:
    names = like or (name,)
    return np.mean([shares[CLASS_NAMES.index(each)] for each in names], axis=0)


def _directions(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    rows = generator.normal(size=(count, EMBEDDING_SIZE))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _word_parts(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What all words have in common [768], and what each of the 20 has beside [20, 768]."""
    generator = np.random.default_rng([seed, 768])
    count = len(CLASS_NAMES)
    common = _directions(1, generator)[0]
    families, pairs, words = (_directions(count, generator) for _ in range(3))
    family, pair = (_group_numbers(groups) for groups in (FAMILIES, PAIRS))
    rows = np.sqrt(FAMILY) * families[family] + np.sqrt(PAIR) * pairs[pair] + np.sqrt(WORD) * words
    return common, rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _group_numbers(groups: tuple[tuple[str, ...], ...]) -> NDArray[np.int64]:
    """For every class the number of its group; one without a group is a group by itself."""
    own = np.arange(len(CLASS_NAMES))
    for group in groups:
        members = [CLASS_NAMES.index(name) for name in group]
        own[members] = members[0]
    return own
