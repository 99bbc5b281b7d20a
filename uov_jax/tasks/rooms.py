"""What the stages of rooms share: opening their data, and judging them in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from uov_jax.bar import Bar
from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError
from uov_jax.evaluation import tables
from uov_jax.evaluation.judging import evenly_spaced, judge
from uov_jax.evaluation.score_files import write_table
from uov_jax.evaluation.scores import TEACHER, Scores
from uov_jax.evaluation.scoring import BY_FEW, BY_NONE, EVERYWHERE, ROOMS, SEEN, room_mean_iou
from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.evaluation.validation import NETWORK
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.pseudo_labels import features_identity
from uov_jax.training.task import fingerprint
from uov_jax.vocabulary import Vocabulary, load_vocabulary

# What the mean IoUs of a validation are called, by the points that they are of.
METRICS = {
    EVERYWHERE: "miou",
    SEEN: "miou_seen",
    BY_FEW: "miou_few_views",
    BY_NONE: "miou_unseen",
}


@dataclasses.dataclass(frozen=True)
class RoomData:
    """The rooms of a recipe and their features.

    Attributes:
        vocabulary: of the labels and the words.
        store: of the rooms.
        features: of their points.
        train: names of the training rooms, each of which has a point that a view saw.
        validation: names of the rooms to be judged on: those of the split with labels.

    """

    vocabulary: Vocabulary
    store: RoomStore
    features: FeatureFolder
    train: tuple[str, ...]
    validation: tuple[str, ...]

    def identity(self) -> dict[str, str]:
        """Rooms, classes and features, which a checkpoint is bound to.

        The rooms in their order, because the order of the batches follows from it.
        """
        facts = self.features.manifest
        return {
            "dataset": self.store.manifest.dataset,
            "vocabulary": self.vocabulary.hash,
            "teacher": facts.teacher,
            "teacher_weights": facts.weights_hash,
            "features": features_identity(self.features),
            "features_of_rooms": self.features.identity(self.train),
            "text_embeddings": fingerprint(self.features.text_embeddings.tobytes()),
            "embedding_size": str(facts.embedding_size),
            "training_rooms": fingerprint("\n".join(self.train).encode()),
        }


def open_rooms(config: ConfigDict) -> RoomData:
    """Open store and features of a recipe; what is left out is said.

    Args:
        config: its `data`: `root`, `features`, `vocabulary`, `train_split`, `val_split` ("" for no
            validation); `run.validation_rooms`, how many are judged, None for all.

    Raises:
        MissingFileError: the store, features, or rooms of a split are missing.
        InputError: they do not fit each other, or a room is to be learnt and judged on.

    """
    data = config.data
    vocabulary = load_vocabulary(data.vocabulary)
    store = RoomStore(data.root, vocabulary)
    features = FeatureFolder(data.features, vocabulary)
    if features.manifest.dataset != store.manifest.dataset:
        raise InputError(
            f"{features.root}: features of rooms of {features.manifest.dataset!r}, but "
            f"{store.root} holds rooms of {store.manifest.dataset!r}"
        )
    train = store.split(data.train_split)
    features.check(train)
    validation: list[str] = []
    if data.val_split:
        judged = store.split(data.val_split)
        learnt = [room for room in judged if room in set(train)]
        if learnt:
            raise InputError(
                f"{store.root}: {len(learnt)} of {len(judged)} rooms of {data.val_split!r} are in "
                f"the training split {data.train_split!r} too, the first is {learnt[0]}: a score "
                "would be of rooms that were learnt; --config.data.val_split= for no validation"
            )
        validation = [room for room in judged if store.has_labels(room)]
        if len(validation) < len(judged) and not jax.process_index():
            print(
                f"{len(judged) - len(validation):,} rooms of {data.val_split!r} have no true "
                "labels: left out.",
                flush=True,
            )
    validation = evenly_spaced(validation, config.run.validation_rooms)
    return RoomData(vocabulary, store, features, tuple(train), tuple(validation))


def validate_rooms(
    data: RoomData,
    sample: Callable[[str], Mapping[str, Any]],
    classes_of_rows: Callable[[Mapping[str, Any]], Any],
    workers: int,
    timeout: float,
    directory: Path,
    step: int,
    share: Share = WHOLE,
    judged: str = EVERYWHERE,
) -> dict[str, float]:
    """Judge the validation rooms, beside their features; writes and prints the table.

    Args:
        data: of the recipe.
        sample: of a room's name; as `Scores.add` and `judge` take it.
        classes_of_rows: as `judge` takes it.
        workers: threads that build samples ahead.
        timeout: as `judge` takes it.
        directory: takes the tables.
        step: of the run.
        share: of this process.
        judged: which points the samples have: `EVERYWHERE`, or `SEEN` for those alone that views
            saw.

    Returns:
        Means as `ROOMS` has them: `miou` of all points, and of those that views saw, at most one,
        or none; the features' own; how far the network agrees with them. Of samples that have seen
        points alone there is `miou_seen`, and the other names end in `_seen` too. Nothing without a
        room.

    """
    if not data.validation:
        return {}
    scores = Scores(data.vocabulary.eval_classes, ROOMS)
    mine = share.of(data.validation)
    rooms = judge(
        sample,
        mine,
        {NETWORK: classes_of_rows},
        workers=workers,
        timeout=timeout,
        at_once=share.at_once,
    )
    for room in Bar(
        rooms, total=len(mine), desc="validation", leave=False, disable=not share.writes
    ):
        scores.add(room.sample, room.columns)
    share.merge(scores)
    network = dict(scores.columns[NETWORK].matrices)
    if judged != EVERYWHERE:
        network = {judged: network[EVERYWHERE]}
    teacher = scores.columns.get(TEACHER, scores.empty_column()).everywhere
    columns = {f"network, {subset}": network[subset] for subset in METRICS if subset in network}
    columns[TEACHER] = teacher
    columns = {name: matrix for name, matrix in columns.items() if matrix.points}
    if share.writes:
        Bar.write(tables.format_table(columns, scoring=ROOMS))
        write_table(columns, directory / "tables" / f"step_{step:07d}", ROOMS)
    found = {
        name: room_mean_iou(network[subset])
        for subset, name in METRICS.items()
        if subset in network and network[subset].points
    }
    whole, ending = network[judged], METRICS[judged].removeprefix("miou")
    found[f"miou{ending}_as_published"] = whole.mean_iou("zero", void="drop")
    found[f"mean_accuracy{ending}"] = whole.mean_accuracy()
    found[f"accuracy{ending}"] = whole.accuracy()
    if teacher.points:
        equal, labelled = scores.agreement[NETWORK]
        found["teacher_miou_seen"] = room_mean_iou(teacher)
        found["teacher_agreement"] = equal / labelled
    return found
