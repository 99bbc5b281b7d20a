"""Teachers as fusion asks them: dense features of frames, and words in the same space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uov_jax.datasets.frames import Frame, read_color
from uov_jax.errors import InputError
from uov_jax.fusion.image_features import FeatureGrid, ImageFeatures, MaskFeatures
from uov_jax.teachers.teacher import Teacher
from uov_jax.teachers.text import word_embeddings

OPENSCENE_PROMPT = "a {} in a scene"
BARE_PROMPT = "{}"
UNPROMPTED = "other"  # of no class: OpenScene leaves it as it is, whatever the prompt


class DenseTeacher:
    """A teacher's dense features: MaskCLIP's own patches, else the embedding of a pixel's mask.

    See `uov_jax.fusion.image_features.ImageTeacher`.
    """

    quick = False

    def __init__(self, teacher: Teacher) -> None:
        """Take a teacher with words.

        Raises:
            InputError: it has none, so that its features could not be compared with any.

        """
        if teacher.text_embeddings is None:
            raise InputError(
                f"the teacher {teacher.name!r} has no words, so that nothing could be found with "
                "its features: take maskclip, san, fcclip or catseg"
            )
        self.name, self.weights_hash = teacher.name, teacher.weights_hash
        self.embedding_size, self.settings = teacher.embedding_size, teacher.settings
        self._teacher = teacher
        self._dense: Any = getattr(teacher, "dense_features", None)

    def load(self, frame: Frame) -> np.ndarray:
        """uint8[H, W, 3]: the frame's image."""
        return read_color(frame)

    def features(self, frame: Frame, loaded: np.ndarray) -> ImageFeatures:
        """The features of an image: a grid of patches, or masks."""
        if self._dense is not None:
            return FeatureGrid(self._dense(loaded))
        (found,) = self._teacher.segment([loaded])
        return MaskFeatures(found.masks, found.embeddings)

    def text_embeddings(self, words: Sequence[str], prompt: str = OPENSCENE_PROMPT) -> np.ndarray:
        """float32[W, D]: a unit row for every word, in one prompt.

        Args:
            words: W of them.
            prompt: with {} for the word; "{}" alone is what 3DSS-VLG's pseudo labels are made with.

        Raises:
            InputError: a prompt without {}, or one that is too long.

        """
        tower = getattr(self._teacher, "text_tower")  # noqa: B009: not every teacher has one
        return word_embeddings(tower, prompted(words, prompt), (BARE_PROMPT,), self.weights_hash)


def prompted(words: Sequence[str], prompt: str) -> list[str]:
    """Words in a prompt, as OpenScene asks for them: "other" stays as it is.

    Raises:
        InputError: the prompt has no single {}.

    """
    if prompt.count("{}") != 1:
        raise InputError(f"the prompt {prompt!r} must have one {{}} where the word goes")
    return [word if word == UNPROMPTED else prompt.replace("{}", word) for word in words]
