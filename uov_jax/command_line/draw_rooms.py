r"""Draw rooms: what they look like and every labelling there is, from above and in perspective.

    python scripts/draw_rooms.py --rooms data/sim-rooms/store --room scene0000_00 \
        --labels data/sim-rooms/pseudo_labels --features data/sim-rooms/features --output pictures

It draws what there is: true labels where the store has some, pseudo labels where --labels names
them ("teacher"), the words that fit best where --features names fused or specialised features, and
predictions where --predictions names a folder that scripts/evaluate.py --predictions wrote. No
network is run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from uov_jax.bar import Bar
from uov_jax.command_line import command
from uov_jax.datasets.room_labels import RoomLabelFormat
from uov_jax.datasets.rooms import RoomStore
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.make_pseudo_labels import CHUNK, best_words
from uov_jax.fusion.pseudo_labels import PseudoLabelFolder
from uov_jax.pictures.animation import Frame
from uov_jax.pictures.rerun import require_rerun, write_recording
from uov_jax.pictures.room import room_picture
from uov_jax.vocabulary import Vocabulary, load_vocabulary


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--rooms", required=True, type=Path, help="the store of rooms")
    parser.add_argument("--room", nargs="+", help="names; all rooms of the split else")
    parser.add_argument("--split", help="such as val; all rooms of the store else")
    parser.add_argument("--labels", type=Path, help="folder of pseudo labels")
    parser.add_argument("--features", type=Path, help="folder of fused or specialised features")
    parser.add_argument("--predictions", type=Path, help="folder of predicted labels")
    parser.add_argument("--label-table", type=Path, help="ScanNet's, if predictions are in its way")
    parser.add_argument("--vocabulary", help="name or file of the dictionary; the store's else")
    parser.add_argument("--output", required=True, type=Path, help="folder of the pictures")
    parser.add_argument("--rerun", action="store_true", help="also a .rrd file for Rerun")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: draw(options), stopped="")


def draw(options: argparse.Namespace) -> None:
    """Draw what the options say."""
    if options.rerun:
        require_rerun()
    store = RoomStore(options.rooms)
    vocabulary = load_vocabulary(options.vocabulary or store.manifest.vocabulary)
    rooms = DrawnRooms(options, RoomStore(options.rooms, vocabulary), vocabulary)
    output, names, colors = options.output, vocabulary.eval_classes, vocabulary.colors
    output.mkdir(parents=True, exist_ok=True)
    print(f"Drawing {len(rooms.names)} rooms, some 5 s each, into {output}", flush=True)
    for name in Bar(rooms.names, unit="room"):
        frame = rooms.frame(name)
        room_picture(
            frame.points, frame.panels, colors, output / f"{name}.png",
            point_colors=frame.colors, names=names, title=name,
        )  # fmt: skip
    if not options.rerun:
        command.say_next(f"look at {output}")
        return
    recording = output / "rooms.rrd"
    write_recording(rooms.frames(), colors, recording, names=names)
    command.say_next(f"rerun {recording}")


class DrawnRooms:
    """Rooms with every labelling that the options name.

    Attributes:
        names: of the rooms.

    """

    def __init__(
        self, options: argparse.Namespace, store: RoomStore, vocabulary: Vocabulary
    ) -> None:
        """Open what is named.

        Raises:
            MissingFileError: a room, its labels or its features are missing.
            InputError: they are of another vocabulary.

        """
        self.store, self.vocabulary = store, vocabulary
        everything = store.split(options.split) if options.split else store.names()
        self.names = list(dict.fromkeys(options.room or everything))
        for name in self.names:
            store.room(name)  # refuses one that is not there
        self._labels = self._features = None
        if options.labels:
            self._labels = PseudoLabelFolder(options.labels, vocabulary)
            self._labels.check(self.names)
        if options.features:
            self._features = FeatureFolder(options.features, vocabulary)
            self._features.check(self.names)
        self._predictions = options.predictions
        self._format = RoomLabelFormat(self.names, vocabulary, options.label_table)

    def frames(self) -> Iterator[Frame]:
        """All rooms, one after the other."""
        return map(self.frame, self.names)

    def frame(self, name: str) -> Frame:
        """One room with its labellings: "truth", "teacher", "prediction", "fused 2D"."""
        room = self.store.room(name)
        panels: dict[str, np.ndarray] = {}
        if room.labels is not None:
            panels["truth"] = np.asarray(room.labels)
        if self._labels is not None:
            panels["teacher"] = np.asarray(self._labels.labels(name, len(room)))
        if self._features is not None:
            panels[f"{self._features.manifest.kind} 2D"] = self._words(name, len(room))
        if self._predictions is not None:
            path = self._predictions / self._format.path(self.names.index(name))
            panels["prediction"] = self._format.read(path, len(room))
        return Frame(np.asarray(room.coords), panels, colors=np.asarray(room.colors))

    def _words(self, name: str, points: int) -> np.ndarray:
        assert self._features is not None
        found = self._features.room(name, points)
        best = best_words(found.parts(CHUNK), self._features.text_embeddings).unfiltered
        classes = np.zeros(points, np.uint8)
        classes[found.visible] = self.vocabulary.word_eval_class[best]
        return classes
