"""Reading of a class dictionary and the tables from word, and raw label, to evaluation class."""

from __future__ import annotations

import colorsys
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.contents import parse_json
from uov_jax.errors import InputError, MissingFileError

RAW_LABELS = 256  # raw labels are stored as uint8
# nuScenes has so many; those that a dictionary gives no class are ignored, not wrong.
NUSCENES_RAW_LABELS = 32


class VocabularyError(InputError):
    """A vocabulary file does not follow the schema; the message names the file and the place."""


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """A class dictionary: W words in groups, each group one raw label of the dataset.

    Words are addressed by index, because a word may stand in two groups ("scooter" is a
    motorcycle and a personal mobility device). Spelling and leading spaces are part of the
    prompt that teachers were run with and are kept.

    Attributes:
        name: name of the data file.
        words: the W words in the order of the teachers' class logits.
        word_group: int32[W], number of the group of each word.
        word_raw_index: int32[W], the dataset's own label of each word.
        word_eval_class: int32[W], evaluation class of each word; 0 is ignored.
        word_is_thing: bool[W], whether the word names things that can be counted, such as cars;
            a panoptic teacher tells one from the next.
        eval_classes: names of the evaluation classes; the first is "ignore".
        raw_to_eval: uint8[256], evaluation class of each raw label; labels without a group are 0.
        colors: uint8[len(eval_classes), 3], RGB of each evaluation class.
        ground_classes: evaluation classes that ground may have; () where that is not said.
        num_raw_labels: raw labels are below this.
        hash: sha256 of words, groups and classes (not of name, colours, ground and things), in
            hexadecimal.

    """

    name: str
    words: tuple[str, ...]
    word_group: np.ndarray
    word_raw_index: np.ndarray
    word_eval_class: np.ndarray
    word_is_thing: np.ndarray
    eval_classes: tuple[str, ...]
    raw_to_eval: np.ndarray
    colors: np.ndarray
    ground_classes: tuple[int, ...]
    num_raw_labels: int
    hash: str

    def __len__(self) -> int:
        """Number of words."""
        return len(self.words)

    def indices(self, word: str) -> tuple[int, ...]:
        """Every index at which a word stands, in order; empty if it is not in the dictionary."""
        return tuple(index for index, other in enumerate(self.words) if other == word)

    def index(self, word: str) -> int:
        """The index of a word that stands in the dictionary exactly once; InputError otherwise."""
        found = self.indices(word)
        if len(found) != 1:
            where = f"at indices {found}" if found else "nowhere"
            raise InputError(
                f"vocabulary {self.name!r}: the word {word!r} stands {where}, "
                "an index needs it exactly once"
            )
        return found[0]

    def content(self) -> dict[str, Any]:
        """What a file of this dictionary holds, as `parse_vocabulary` takes it."""
        starts = np.unique(self.word_group, return_index=True)[1]
        groups = [
            {
                "raw_index": int(self.word_raw_index[first]),
                "eval_class": int(self.word_eval_class[first]),
                "words": [self.words[i] for i in np.flatnonzero(self.word_group == number)],
                "thing": bool(self.word_is_thing[first]),
            }
            for number, first in enumerate(starts)
        ]
        return {
            "name": self.name,
            "eval_classes": list(self.eval_classes),
            "groups": groups,
            "colors": self.colors.tolist(),
            "ground": [self.eval_classes[number] for number in self.ground_classes],
        }

    def words_of_class(self, eval_class: int) -> np.ndarray:
        """int32[n]: indices of the words of one evaluation class."""
        return np.flatnonzero(self.word_eval_class == eval_class).astype(np.int32)


def load_vocabulary(name_or_path: str | Path = "nuscenes") -> Vocabulary:
    """Load a dictionary that ships with the package by name, or any file of the same schema.

    The schema is JSON: `eval_classes` (names, the first one is ignored in evaluation), `groups`
    (list of `raw_index`, `eval_class`, `words`, and optionally `thing`: whether the words name
    countable things, false by default), and optionally `name`, `colors` (one RGB triple per
    evaluation class) and `ground` (names of the classes that ground may have, for AFI).

    Raises:
        MissingFileError: there is neither such a name nor such a file.
        VocabularyError: the file does not follow the schema.

    """
    text, source, name = _read_text(name_or_path)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise VocabularyError(f"{source}: not a JSON file: {error}") from error
    return _parse(content, source, name)


def parse_vocabulary(content: Any, source: str) -> Vocabulary:
    """The dictionary of a file's content; `source` names it in VocabularyError."""
    return _parse(content, source, "")


def vocabulary_identity(vocabulary: Vocabulary) -> dict[str, str]:
    """What of a dictionary decides scores: words, classes and ground, not where its file is."""
    ground = ", ".join(vocabulary.eval_classes[number] for number in vocabulary.ground_classes)
    return {"vocabulary": vocabulary.hash, "classes of the ground": ground}


def vocabulary_of_words(words: Sequence[str]) -> Vocabulary:
    """A dictionary of some words, each a group and an evaluation class of its own.

    Raises:
        VocabularyError: no words, empty ones, more than 254, or a word twice.

    """
    groups = [
        {"raw_index": number, "eval_class": number, "words": [word]}
        for number, word in enumerate(words, start=1)
    ]
    content = {"eval_classes": ["ignore", *words], "groups": groups}
    return _parse(content, "the words given", "words")


def _read_text(name_or_path: str | Path) -> tuple[str, str, str]:
    shipped = resources.files("uov_jax.vocabulary").joinpath(f"{name_or_path}.json")
    if isinstance(name_or_path, str) and "/" not in name_or_path and shipped.is_file():
        return shipped.read_text("utf-8"), f"vocabulary {name_or_path!r}", name_or_path
    path = Path(name_or_path)
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no vocabulary file there, and no vocabulary of that name in the package "
            f"(it has {', '.join(_shipped_names())})"
        )
    try:
        return path.read_text("utf-8"), str(path), path.stem
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path}: not UTF-8 text: {error}") from error


def _shipped_names() -> list[str]:
    files = resources.files("uov_jax.vocabulary").iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith(".json"))


def _parse(content: Any, source: str, name: str) -> Vocabulary:
    def require(condition: Any, place: str, expected: str, found: Any) -> None:
        if not condition:
            raise VocabularyError(
                f"{source}: not a vocabulary: {place}: expected {expected}, found {found!r}"
            )

    require(isinstance(content, dict), "top level", "an object", type(content).__name__)
    classes = content.get("eval_classes")
    require(
        isinstance(classes, list) and 2 <= len(classes) < RAW_LABELS and _are_names(classes),
        "eval_classes",
        "2 to 255 non-empty names, the first one ignored in evaluation",
        classes,
    )
    require(len(set(classes)) == len(classes), "eval_classes", "different names", classes)
    groups = content.get("groups")
    require(isinstance(groups, list) and groups, "groups", "a non-empty list", groups)

    words: list[str] = []
    group_of_word: list[int] = []
    thing_of_word: list[bool] = []
    class_of_raw: dict[int, int] = {}
    for number, group in enumerate(groups):
        place = f"groups[{number}]"
        require(isinstance(group, dict), place, "an object", group)
        raw, eval_class, own = (group.get(k) for k in ("raw_index", "eval_class", "words"))
        thing = group.get("thing", False)
        require(_is_index(raw, RAW_LABELS), f"{place}.raw_index", "an integer 0..255", raw)
        last = len(classes) - 1
        require(
            _is_index(eval_class, len(classes)),
            f"{place}.eval_class",
            f"an integer 0..{last}",
            eval_class,
        )
        require(
            isinstance(own, list) and own and _are_names(own),
            f"{place}.words",
            "a non-empty list of words",
            own,
        )
        require(isinstance(thing, bool), f"{place}.thing", "true or false", thing)
        earlier = class_of_raw.setdefault(raw, eval_class)
        require(
            earlier == eval_class,
            f"{place}.eval_class",
            f"{earlier}, as an earlier group gives raw index {raw}",
            eval_class,
        )
        words.extend(own)
        group_of_word.extend([number] * len(own))
        thing_of_word.extend([thing] * len(own))

    ground = content.get("ground", [])
    require(
        isinstance(ground, list) and all(each in classes[1:] for each in ground),
        "ground",
        "names of evaluation classes, the ignored one left out",
        ground,
    )
    given_name = content.get("name", name)
    require(isinstance(given_name, str), "name", "a string", given_name)
    word_group = np.array(group_of_word, np.int32)
    group_raw = np.array([group["raw_index"] for group in groups], np.int32)
    group_class = np.array([group["eval_class"] for group in groups], np.int32)
    raw_to_eval = np.zeros(RAW_LABELS, np.uint8)
    raw_to_eval[list(class_of_raw)] = list(class_of_raw.values())
    return Vocabulary(
        name=given_name,
        words=tuple(words),
        word_group=word_group,
        word_raw_index=group_raw[word_group],
        word_eval_class=group_class[word_group],
        word_is_thing=np.array(thing_of_word, bool),
        eval_classes=tuple(classes),
        raw_to_eval=raw_to_eval,
        colors=_colors(content.get("colors"), len(classes), source),
        ground_classes=tuple(classes.index(each) for each in ground),
        num_raw_labels=max(NUSCENES_RAW_LABELS, max(class_of_raw) + 1),
        hash=_content_hash(classes, groups),
    )


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(value, str) and value.strip() for value in values)


def _is_index(value: Any, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit


def _content_hash(classes: list[str], groups: list[dict[str, Any]]) -> str:
    rows = [[group["raw_index"], group["eval_class"], group["words"]] for group in groups]
    return hashlib.sha256(json.dumps([classes, rows]).encode()).hexdigest()


def _colors(colors: Any, num_classes: int, source: str) -> np.ndarray:
    if colors is None:  # evenly spread hues, black for what is ignored
        hues = [colorsys.hsv_to_rgb(i / (num_classes - 1), 0.8, 0.9) for i in range(num_classes)]
        table = np.round(np.array(hues) * 255).astype(np.uint8)
        table[0] = 0
        return table
    valid = (
        isinstance(colors, list)
        and len(colors) == num_classes
        and all(
            isinstance(rgb, list) and len(rgb) == 3 and all(_is_index(v, 256) for v in rgb)
            for rgb in colors
        )
    )
    if not valid:
        raise VocabularyError(
            f"{source}: colors: expected {num_classes} RGB triples of integers 0..255, "
            f"one per evaluation class, found {colors!r}"
        )
    return np.array(colors, np.uint8)
