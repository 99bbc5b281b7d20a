"""The half of the command `query` that is about rooms."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from uov_jax.checkpoints.folder import read_record
from uov_jax.checkpoints.run import find_checkpoint
from uov_jax.command_line import command
from uov_jax.command_line.text_tower import embedded_texts
from uov_jax.datasets.rooms import RoomStore
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.words import RoomWords
from uov_jax.tasks.query import rows_of
from uov_jax.tasks.room_query import (
    QueriedFeatures,
    QueriedRoomNetwork,
    QueriedRooms,
    answer_room,
    find_room,
    run_config,
)
from uov_jax.vocabulary import load_vocabulary


def is_of_rooms(checkpoint: Path) -> bool:
    """Whether a run is one of the stages of rooms."""
    return read_record(find_checkpoint(checkpoint))["config"].get("task") in ("ess", "esg")


def ask_room(options: argparse.Namespace) -> None:
    """Answer the query of a room that the options say."""
    data: dict[str, Any] = {}
    if options.checkpoint is not None:
        data = run_config(options.checkpoint).data.to_dict()
    store = RoomStore(options.data or data["root"])
    folder = FeatureFolder(options.features or data["features"])
    facts = folder.manifest
    words = RoomWords(folder.root, folder.text_embeddings, facts.teacher, facts.weights_hash)
    queried: QueriedRooms = QueriedFeatures(folder)
    if options.checkpoint is not None:
        queried = QueriedRoomNetwork(options.checkpoint, words)
    room = find_room(store, options.split or data.get("val_split", ""), options.room)
    texts = list(dict.fromkeys(options.text))
    if options.weights:

        def require_weights(found: str) -> None:
            words.require_same_teacher("--weights", facts.teacher, found)

        teacher = options.teacher or facts.teacher
        rows = embedded_texts(teacher, texts, options.weights, options.device, require_weights)
    else:
        vocabulary = load_vocabulary(options.vocabulary or data.get("vocabulary", facts.vocabulary))
        FeatureFolder(folder.root, vocabulary)  # refuses another vocabulary
        rows = rows_of(texts, words.text, vocabulary)
    print(f"{queried.source}, teacher {facts.teacher!r}.", flush=True)
    run = Path("runs") if options.checkpoint is None else run_directory(queried.source)
    output = options.output or run / "query"
    queries = dict(zip(texts, rows, strict=True))
    for line in answer_room(queried, store, room, queries, output, top=options.top):
        print(line, flush=True)
    command.say_next(f"look at the pictures in {output}, or ask with another --text or --room")


def run_directory(folder: Path) -> Path:
    """The run that a checkpoint's folder belongs to."""
    return folder.parents[1] if folder.parent.name == "checkpoints" else folder
