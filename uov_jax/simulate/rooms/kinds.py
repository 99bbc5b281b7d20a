"""The kinds of surface in simulated rooms: what ScanNet calls them, and the class of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Names of the labels 0 to 40 of NYU's table, as ScanNet spells them.
NYU40_NAMES = (
    *("unannotated", "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window"),
    *("bookshelf", "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser"),
    *("pillow", "mirror", "floor mat", "clothes", "ceiling", "books", "refridgerator"),
    *("television", "paper", "towel", "shower curtain", "box", "whiteboard", "person"),
    *("night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure"),
    *("otherfurniture", "otherprop"),
)
# The NYU40 ids of ScanNet's 20 classes; their place here, counted from 1, is the class.
CLASS_IDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
NUM_CLASSES = len(CLASS_IDS)


class Kind(NamedTuple):
    """One kind of surface: the name that annotators give it, and its NYU40 id.

    `like` says what a teacher of images takes it for where it is none of the 20 classes.
    """

    name: str
    nyu40: int
    like: tuple[str, ...] = ()


KINDS: tuple[Kind, ...] = (
    Kind("unannotated", 0, ("wall",)),
    Kind("wall", 1),
    Kind("floor", 2),
    Kind("ceiling", 22, ("wall",)),
    Kind("cabinet", 3),
    Kind("bed", 4),
    Kind("chair", 5),
    Kind("sofa", 6),
    Kind("table", 7),
    Kind("door", 8),
    Kind("window", 9),
    Kind("bookshelf", 10),
    Kind("picture", 11),
    Kind("counter", 12),
    Kind("desk", 14),
    Kind("curtain", 16),
    Kind("refrigerator", 24),
    Kind("shower curtain", 28),
    Kind("toilet", 33),
    Kind("sink", 34),
    Kind("bathtub", 36),
    Kind("otherfurniture", 39),
    Kind("pillow", 18, ("bed", "sofa")),
    Kind("mirror", 19, ("window", "picture")),
    Kind("floor mat", 20, ("floor",)),
    Kind("books", 23, ("bookshelf",)),
    Kind("television", 25, ("picture", "window")),
    Kind("towel", 27, ("curtain", "shower curtain")),
    Kind("box", 29, ("cabinet", "otherfurniture")),
    Kind("nightstand", 32, ("cabinet", "table")),
    Kind("lamp", 35, ("otherfurniture",)),
    Kind("monitor", 40, ("picture", "otherfurniture")),
    Kind("plant", 40, ("otherfurniture",)),
    Kind("rod", 40, ("otherfurniture", "curtain")),
)
KIND: dict[str, int] = {kind.name: number for number, kind in enumerate(KINDS)}
NYU40_OF_KIND = np.array([kind.nyu40 for kind in KINDS], np.uint16)
CLASS_OF_KIND = np.array(
    [CLASS_IDS.index(kind.nyu40) + 1 if kind.nyu40 in CLASS_IDS else 0 for kind in KINDS], np.uint8
)
CLASS_NAMES = tuple(
    next(kind.name for kind in KINDS if kind.nyu40 == number) for number in CLASS_IDS
)
"""Names of the 20 classes; class c is called CLASS_NAMES[c - 1]."""
