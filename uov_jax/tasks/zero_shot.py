"""Scoring a language-aligned network on a validation split without any label in training.

Every voxel gets the evaluation class of the word most similar to its feature, every point the
class of its voxel. Words of ignored groups take no part: the metric forbids predictions of
class 0, so such a word could only ever be a miss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.vocabulary import Vocabulary


def word_classifier(
    text_embeddings: np.ndarray, vocabulary: Vocabulary, predict_ignored: bool = False
) -> Callable[[jax.Array], jax.Array]:
    """A function from features [N, D] to the evaluation class uint8 [N] of the nearest word.

    Args:
      text_embeddings: float[W, D], of the vocabulary's words.
      vocabulary: gives the class of each word.
      predict_ignored: let words of ignored groups take part; they give class 0, a miss.

    Raises:
      ValueError: the text embeddings are not those of the vocabulary's words.

    """
    if len(text_embeddings) != len(vocabulary):
        raise ValueError(
            f"{len(text_embeddings)} text embeddings for the {len(vocabulary)} words of the "
            f"vocabulary {vocabulary.name!r}"
        )
    evaluated = np.flatnonzero((vocabulary.word_eval_class != 0) | predict_ignored)
    text = text_embeddings[evaluated].astype(np.float32)
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    classes = vocabulary.word_eval_class[evaluated].astype(np.uint8)

    def classify(features: jax.Array) -> jax.Array:
        similarity = jnp.matmul(features, jnp.asarray(text.T), precision="highest")
        return jnp.asarray(classes)[jnp.argmax(similarity, axis=1)]

    return classify


@dataclasses.dataclass
class ZeroShotScores:
    """Confusion matrices of a network, and of its teacher, against the true labels.

    Attributes:
      everywhere: the network, on all points.
      seen: the network, on the points that a camera sees.
      unseen: the network, on the points that no camera sees.
      teacher: the teacher's labels projected onto the points that a camera sees; void is a miss.
      agreement: of the points with a teacher's label, those on which both agree, and all.
      labelled_sweeps: sweeps that had true labels.

    """

    everywhere: ConfusionMatrix
    seen: ConfusionMatrix
    unseen: ConfusionMatrix
    teacher: ConfusionMatrix
    agreement: tuple[int, int] = (0, 0)
    labelled_sweeps: int = 0

    @classmethod
    def empty(cls, vocabulary: Vocabulary) -> ZeroShotScores:
        """Scores of no sweep yet."""
        names = vocabulary.eval_classes
        everywhere, seen, unseen, teacher = (ConfusionMatrix(len(names), names) for _ in range(4))
        return cls(everywhere, seen, unseen, teacher)

    def add(
        self,
        prediction: np.ndarray,
        truth: np.ndarray | None,
        teacher_label: np.ndarray,
        seen: np.ndarray,
    ) -> None:
        """Add one sweep: arrays [points] of evaluation classes, and bool `seen`."""
        labelled = teacher_label > 0
        equal = int(np.count_nonzero(prediction[labelled] == teacher_label[labelled]))
        total = int(np.count_nonzero(labelled))
        self.agreement = (self.agreement[0] + equal, self.agreement[1] + total)
        if truth is None:
            return
        self.labelled_sweeps += 1
        self.everywhere.add(truth, prediction)
        self.seen.add(truth[seen], prediction[seen])
        self.unseen.add(truth[~seen], prediction[~seen])
        self.teacher.add(truth[seen], teacher_label[seen])

    @property
    def columns(self) -> dict[str, ConfusionMatrix]:
        """The matrices by the names that the table gives them."""
        return {
            "network, all points": self.everywhere,
            "network, seen": self.seen,
            "network, unseen": self.unseen,
            "teacher, seen": self.teacher,
        }

    def metrics(self) -> dict[str, float]:
        """Mean IoUs where there were true labels, and the agreement with the teacher."""
        found = {}
        if self.agreement[1]:
            found["teacher_agreement"] = self.agreement[0] / self.agreement[1]
        if self.labelled_sweeps:
            matrices = {
                "zero_shot_miou": self.everywhere,
                "zero_shot_miou_seen": self.seen,
                "zero_shot_miou_unseen": self.unseen,
                "teacher_miou_seen": self.teacher,
            }
            # A mean over no class at all, as of unseen points where every point is seen.
            found |= {name: m.mean_iou() for name, m in matrices.items() if m.points}
        return found

    def summary(self) -> list[str]:
        """Two lines: the network beside the teacher, and where no camera looks."""
        scores = self.metrics()
        teacher = scores.get("teacher_miou_seen", 0.0)
        everywhere = scores.get("zero_shot_miou", 0.0)
        return [
            _share(
                "On seen points", scores.get("zero_shot_miou_seen"), teacher, "the teacher's mIoU"
            ),
            _share(
                "On unseen points",
                scores.get("zero_shot_miou_unseen"),
                everywhere,
                "its mIoU on all points",
            ),
        ]


def _share(where: str, score: float | None, of: float, whose: str) -> str:
    if score is None or not of > 0:
        return f"{where} there is nothing to compare."
    return f"{where} the network has {score / of:.0%} of {whose}."


def picture_path(directory: Path, step: int, token: str) -> Path:
    """Where the bird's-eye picture of a keyframe at a step goes."""
    return directory / "pictures" / f"step_{step:07d}_{token}.png"


def evenly_spaced(items: Sequence[Any], number: int | None) -> list[Any]:
    """`number` of the items at equal distances, or all of them."""
    if number is None or number >= len(items):
        return list(items)
    return [items[index * len(items) // number] for index in range(number)]


def prefetched(build: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[Any]:
    """`build(item)` for every item in order, built ahead by threads; 0 builds as they are asked."""
    if not workers:
        yield from map(build, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Any]] = []
        try:
            for item in items:
                waiting.append(pool.submit(build, item))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
