r"""Label point clouds by a trained network: a file, a folder of files, or a ROS 2 bag.

    python scripts/predict.py runs/tmp_san-sim sweep.pcd.bin --columns "x y z intensity ring"
    python scripts/predict.py runs/tmp_san-sim sweeps/ --afi --output labels/
    python scripts/predict.py runs/tmp_san-sim sweep.pcd --text "traffic cone" car
    python scripts/predict.py runs/esg_scannet room.ply --text "a desk" \
        --weights ViT-L-14-336px.pt

The checkpoint is a run directory (its last one is taken), the folder of one checkpoint, a file of
scripts/export_checkpoint.py, or somebody's weights with the recipe that they are of:

    python scripts/predict.py uov_tmp_san.pt sweeps/ --recipe configs/annotation_free_san.py

Read are .bin, .pcd, .ply, .las, .laz, .npy, .npz, OpenScene's .pth and bags (.mcap, .db3). Every
cloud gets NAME.predicted.label (uint32 a point, in the order of the file; 0 for points that are not
finite), NAME.predicted.npz (labels with the classes' names) and NAME.predicted.ply (coloured), and
the folder a table of the classes, predicted.txt, and some pictures. Stop it at any time: the same
command goes on where it stopped.

What the network learned from is compared with every cloud, and what is amiss is said with the
option that mends it: --scale 0.001 for millimetres, --up y, --intensity-scale 255, --lift 1.2.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uov_jax.command_line import command
from uov_jax.command_line.typed import as_typed

if TYPE_CHECKING:
    import numpy as np

    from uov_jax.tasks.prediction import CloudLabeller
    from uov_jax.tasks.prediction_files import PredictionResult

FILES = ("label", "npz", "ply")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("checkpoint", type=Path, help="a run, one checkpoint, or a file of weights")
    parser.add_argument("clouds", type=Path, help="a file, a folder of files, or a bag")
    parser.add_argument(
        "--recipe", type=command.path_text, help="FILE[:VARIANT], of weights that do not say more"
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the labels; beside the clouds by default"
    )
    parser.add_argument(
        "--files", nargs="+", choices=FILES, default=[*FILES], help="to be written for every cloud"
    )
    parser.add_argument(
        "--pictures", type=command.at_least(0), default=4, help="clouds that are drawn"
    )
    parser.add_argument("--rerun", type=Path, help="FILE.rrd for the Rerun viewer")
    parser.add_argument(
        "--again", action="store_true", help="label also what was labelled in this way before"
    )
    parser.add_argument("--afi", action="store_true", help="smooth the labels of sweeps with AFI")
    texts = parser.add_argument_group("networks of words")
    texts.add_argument(
        "--text", nargs="+", help="label these in the place of the classes; words of the network's"
    )
    texts.add_argument(
        "--embeddings",
        type=Path,
        help="of other texts: a folder of embed_words, whose words they are",
    )
    texts.add_argument(
        "--vocabulary", type=command.path_text, help="of --embeddings; the folder's by default"
    )
    texts.add_argument("--weights", nargs="+", type=Path, help="of any text: the teacher's files")
    texts.add_argument("--teacher", help="whose weights these are; the network's by default")
    texts.add_argument("--device", default="auto", help="of the text tower")
    reading = parser.add_argument_group("how the clouds are read")
    reading.add_argument(
        "--columns",
        help="names in order where columns have none ('x y z intensity _'); else which is which "
        "('intensity=amplitude')",
    )
    reading.add_argument(
        "--scale", type=float, default=1.0, help="metres of a unit; 0.001: millimetres"
    )
    reading.add_argument(
        "--up", default="z", help="the axis that points upward: x, y, z; --up=-y for its opposite"
    )
    reading.add_argument(
        "--intensity-scale", type=float, default=1.0, help="factor of the intensities"
    )
    reading.add_argument(
        "--lift", type=float, default=0.0, help="metres to add to heights, for another sensor's"
    )
    reading.add_argument("--topic", help="of a bag with several")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: predict(options))


def predict(options: argparse.Namespace) -> int:
    """Label what the options say; returns the exit status."""
    # Late, so that the help is there at once.
    from absl import logging

    from uov_jax.clouds import Reading, clouds_in
    from uov_jax.tasks.prediction import load
    from uov_jax.tasks.prediction_files import PredictionSettings, label_clouds, summary

    require_texts(options)
    logging.set_verbosity(logging.ERROR)  # Orbax warns of a file that only its newest format has.
    reading = Reading(
        options.columns, options.scale, options.up, options.intensity_scale, options.topic
    )
    settings = PredictionSettings(
        options.output,
        tuple(kind for kind in FILES if kind in options.files),
        options.pictures,
        options.afi,
        options.rerun,
        options.again,
        reading,
        options.lift,
    )
    clouds = clouds_in(options.clouds, reading)
    print(f"Loading {options.checkpoint}.", flush=True)
    network = load(options.checkpoint, options.recipe)
    for sentence in network.card.assumed:
        print(as_typed(f"{network.source}: {sentence}."), flush=True)
    if options.text:
        network = network.for_texts(embed(options, network))
        for sentence in network.notes:
            print(f"{sentence}.", flush=True)
    others = f" ({clouds.others:,} other files there are none)" if clouds.others else ""
    print(
        f"{len(clouds):,} cloud(s) of {options.clouds}{others}, "
        f"{len(network.classes) - 1} classes: {shortened(network.classes[1:])}.",
        flush=True,
    )
    result = label_clouds(network, clouds, settings)
    print(summary(network, result))
    farewell(options, result)
    if result.signal is not None and not result.finished:
        return 128 + result.signal
    return 1 if result.failed else 0


def require_texts(options: argparse.Namespace) -> None:
    """Refuse what says how texts are embedded where there are none."""
    from uov_jax.errors import InputError

    given = [
        f"--{name}"
        for name in ("embeddings", "vocabulary", "weights", "teacher")
        if getattr(options, name)
    ]
    if given and not options.text:
        raise InputError(f"{given[0]} is of texts, and none are given: add --text 'traffic cone'")


def embed(options: argparse.Namespace, network: CloudLabeller) -> dict[str, np.ndarray | None]:
    """The texts with their unit vectors; None for words that the network carries."""
    texts = list(dict.fromkeys(options.text))
    words = network.card.words
    if options.weights:
        from uov_jax.command_line.text_tower import embedded_texts
        from uov_jax.errors import InputError
        from uov_jax.fusion.words import RoomWords

        teacher = options.teacher or (words.teacher if words else "")
        if not teacher:
            raise InputError(
                f"{network.source}: nothing tells which teacher it learned from: name it with "
                "--teacher"
            )

        def require_weights(found: str) -> None:
            if words is not None:
                own = RoomWords(network.source, words.embeddings, words.teacher, words.weights_hash)
                own.require_same_teacher("--weights", teacher, found)

        rows = embedded_texts(teacher, texts, options.weights, options.device, require_weights)
        return dict(zip(texts, rows, strict=True))
    if options.embeddings is None:
        return dict.fromkeys(texts)
    from uov_jax.errors import MissingFileError
    from uov_jax.fusion.features import FeatureFolder
    from uov_jax.fusion.words import read_words
    from uov_jax.tasks.query import rows_of
    from uov_jax.vocabulary import load_vocabulary

    try:
        folder = FeatureFolder(options.embeddings)
    except MissingFileError as error:
        raise MissingFileError(
            f"{options.embeddings}: no embeddings of words: make them with scripts/embed_words.py"
        ) from error
    vocabulary = load_vocabulary(options.vocabulary or folder.manifest.vocabulary)
    found = read_words(options.embeddings, vocabulary)
    if words is not None:
        found.require_same_teacher(network.source, words.teacher, words.weights_hash)
    return dict(zip(texts, rows_of(texts, found.text, vocabulary), strict=True))


def shortened(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name.replace("_", " ") for name in names[:most]) + more


def farewell(options: argparse.Namespace, result: PredictionResult) -> None:
    """Say what was written and what can be done with it."""
    if result.failed:
        print(f"{result.failed:,} of {result.total:,} clouds were left out, see above.")
    if not result.finished:
        print(f"Stopped after {result.done:,} of {result.total:,} clouds. {command.GOES_ON}")
        return
    before = f", {result.earlier:,} of them before" if result.earlier else ""
    if not result.done:
        print("No cloud has labels.")
        return
    kinds = [kind for kind in FILES if kind in options.files] + ["png"] * (result.pictures > 0)
    names = ", ".join(f"NAME.predicted.{kind}" for kind in kinds)
    print(f"Labelled {result.done:,} cloud(s){before}. Wrote into {result.output}: {names}.")
    if result.recording is not None:
        command.say_next(f"rerun {result.recording}", f"look at {result.output}")
    else:
        pictures = "the pictures and " if result.pictures else ""
        command.say_next(f"look at {pictures}predicted.txt in {result.output}")
