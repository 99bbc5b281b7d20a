"""What a teacher's dumps hold: masks, words and areas, and how they fit the LiDAR's points."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.dumps.file import CameraMasks
from uov_jax.files import write_bytes
from uov_jax.vocabulary import Vocabulary


class DumpStatistics:
    """Sums over keyframes; every share is of sums, not a mean of shares.

    Attributes:
        keyframes, images: counted so far.
        labelled_keyframes: those of them with true labels.
        masks: masks of every image.
        word_masks, word_pixels, word_points: int64[W], of each word.
        pixels, void_pixels: of all images.
        points, seen_points, named_points: of all sweeps; seen by a camera; under a mask.
        labelled_superpoints: superpoints with a labelled point.
        pair_points, pure_pairs: labelled points of superpoints (once for each camera that sees
            them), and those of their superpoint's most frequent class.
        judged_points, right_points: named points with a true class, and those whose word is of it.

    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.keyframes = self.labelled_keyframes = self.images = 0
        self.masks: list[int] = []
        self.word_masks, self.word_pixels, self.word_points = (
            np.zeros(len(vocabulary), np.int64) for _ in range(3)
        )
        self.pixels = self.void_pixels = 0
        self.points = self.seen_points = self.named_points = 0
        self.labelled_superpoints = self.pair_points = self.pure_pairs = 0
        self.judged_points = self.right_points = 0

    def add(
        self,
        cameras: Sequence[CameraMasks],
        word: np.ndarray,
        seen: np.ndarray,
        pair_point: np.ndarray,
        pair_superpoint: np.ndarray,
        truth: np.ndarray | None,
    ) -> None:
        """Add a keyframe.

        Args:
            cameras: its masks.
            word: int32[N], of every point of the sweep, -1 for none.
            seen: bool[N], by a camera.
            pair_point: int32[P], the points under masks, once for each camera.
            pair_superpoint: int32[P], their superpoints.
            truth: uint8[N], evaluation classes, 0 for none; None for a keyframe without labels.

        """
        self.keyframes += 1
        self.images += len(cameras)
        for camera in cameras:
            self.masks.append(camera.num_masks)
            areas = camera.runs.areas(camera.num_masks)
            named = camera.words >= 0
            np.add.at(self.word_pixels, camera.words[named], areas[1:][named])
            np.add.at(self.word_masks, camera.words[named], 1)
            self.pixels += int(areas.sum())
            self.void_pixels += int(areas[0])
        covered = np.zeros(len(word), bool)
        covered[pair_point] = True
        self.points += len(word)
        self.seen_points += int(seen.sum())
        self.named_points += int(covered.sum())
        self.word_points += np.bincount(word[word >= 0], minlength=len(self.vocabulary))
        if truth is not None:
            self.labelled_keyframes += 1
            self._add_purity(pair_superpoint, truth[pair_point])
            self._add_words(word, truth)

    def _add_purity(self, superpoint: np.ndarray, truth: np.ndarray) -> None:
        labelled = truth > 0
        if not labelled.any():
            return
        classes = len(self.vocabulary.eval_classes)
        number = superpoint[labelled] * classes + truth[labelled]
        counts = np.bincount(number, minlength=(int(superpoint.max()) + 1) * classes)
        counts = counts.reshape(-1, classes)
        self.labelled_superpoints += int((counts.sum(1) > 0).sum())
        self.pair_points += int(counts.sum())
        self.pure_pairs += int(counts.max(1).sum())

    def _add_words(self, word: np.ndarray, truth: np.ndarray) -> None:
        judged = (word >= 0) & (truth > 0)
        self.judged_points += int(judged.sum())
        right = self.vocabulary.word_eval_class[word[judged]] == truth[judged]
        self.right_points += int(right.sum())

    def lines(self) -> list[str]:
        """The summary as text."""
        masks = np.array(self.masks)
        lines = [
            f"{self.keyframes} keyframes, {self.images} images",
            f"masks per image: {masks.mean():.1f} on average, {int(np.median(masks))} in the "
            f"median, {masks.min()} to {masks.max()}",
            f"pixels without a mask: {_percent(self.void_pixels, self.pixels)}",
            f"points that a camera sees: {_percent(self.seen_points, self.points)}",
            f"points under a mask: {_percent(self.named_points, self.points)}, of those that a "
            f"camera sees {_percent(self.named_points, self.seen_points)}",
        ]
        if 0 < self.labelled_keyframes < self.keyframes:
            lines.append(
                f"true labels: of {self.labelled_keyframes} keyframes, what follows of purity and "
                "of right words is theirs"
            )
        if self.pair_points:
            lines.append(
                f"purity: {_percent(self.pure_pairs, self.pair_points)} of labelled points are of "
                f"their superpoint's most frequent class ({self.labelled_superpoints} superpoints)"
            )
        if self.judged_points:
            lines.append(
                f"words: {_percent(self.right_points, self.judged_points)} of labelled points have "
                "a word of their true class"
            )
        used = np.flatnonzero(self.word_pixels)
        if used.size:
            lines.append(f"words used: {used.size} of {len(self.vocabulary)}; the largest areas:")
            for index in used[np.argsort(-self.word_pixels[used], kind="stable")][:10]:
                share = _percent(self.word_pixels[index], self.pixels)
                lines.append(f"  {share:>7} {self.vocabulary.words[index].strip()}")
        return lines

    def write_words(self, path: Path) -> None:
        """Write a table of all words: masks, share of the pixels, points."""
        content = io.StringIO()
        table = csv.writer(content)
        table.writerow(["index", "word", "class", "masks", "pixel_share", "points"])
        for index, word in enumerate(self.vocabulary.words):
            table.writerow(
                [
                    index,
                    word,
                    self.vocabulary.eval_classes[self.vocabulary.word_eval_class[index]],
                    self.word_masks[index],
                    f"{self.word_pixels[index] / max(self.pixels, 1):.6f}",
                    self.word_points[index],
                ]
            )
        write_bytes(path, content.getvalue().encode())


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
