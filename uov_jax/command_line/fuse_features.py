"""Fuse what a 2D teacher says of a room's images into features of its points.

Example, dense features of CLIP on ScanNet:

    python scripts/fuse_features.py --rooms data/rooms/scannet --frames data/scannet/scannet_2d \
        --teacher maskclip --weights open_clip_model.safetensors --output data/features/maskclip

The teachers san, fcclip and catseg give every pixel the embedding of its mask. Any other name is of
a teacher whose features lie as files beside the frames, with a teacher.json that has this name: the
simulated one, or one's own (uov_jax/fusion/frame_features.py says how). OpenScene's published
features, SCENE.pt or SCENE_0.pt to SCENE_4.pt, are taken as they are; only words are embedded:

    python scripts/fuse_features.py --rooms data/rooms/scannet \
        --openscene data/scannet_multiview_openseg --weights open_clip_model.safetensors \
        --output data/features/openscene

Stop it at any time: the same command goes on where it stopped. With --shard 3/16, or as one of
several Slurm tasks or members of an indexed job, it does its share of the rooms; all shares go into
the same folder.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.command_line import command, next_steps
from uov_jax.datasets.open_frames import open_frames
from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError
from uov_jax.fusion.features import OPENSCENE, FeatureManifest, FeatureWriter
from uov_jax.fusion.frame_features import FileTeacher
from uov_jax.fusion.fuse_rooms import FusionResult, fuse_rooms, import_rooms
from uov_jax.fusion.image_features import ImageTeacher
from uov_jax.fusion.openscene import OpenSceneFeatures
from uov_jax.fusion.prompts import OPENSCENE_PROMPT
from uov_jax.fusion.views import OPENSCENE_VIEWS, ViewSettings
from uov_jax.fusion.word_embeddings import read_embeddings
from uov_jax.job_array import Shard
from uov_jax.readable import readable_bytes
from uov_jax.teachers import TeacherOptions, create_teacher, packages_needed, teacher_names
from uov_jax.vocabulary import Vocabulary, load_vocabulary

GIGABYTE = 10**9
DEPTH_UNITS = 1000.0  # per metre, where nothing else is said
CLIP = "maskclip"  # whose file has the words of OpenScene's features


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--rooms", required=True, type=Path, help="the store of rooms")
    parser.add_argument("--frames", type=Path, help="folder of the rooms' frames")
    parser.add_argument("--teacher", help=f"{', '.join(_dense())}, or whose features are files")
    parser.add_argument("--openscene", type=Path, help="folder of OpenScene's fused features")
    parser.add_argument(
        "--weights", nargs="+", default=[], type=Path, help="the teacher's official file(s)"
    )
    parser.add_argument(
        "--text", type=Path, help=".npz with the words' embeddings, in the place of --weights"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of the features")
    parser.add_argument(
        "--split", action="append", help="such as train; may be given several times; all rooms else"
    )
    parser.add_argument("--vocabulary", help="name or file of the dictionary; the store's else")
    parser.add_argument(
        "--prompt",
        default=OPENSCENE_PROMPT,
        help='around each word; "{}" for the bare ones of 3DSS-VLG',
    )
    parser.add_argument("--every", type=command.at_least(1), default=1, help="n: every n-th frame")
    parser.add_argument(
        "--cut",
        type=command.at_least(0),
        default=OPENSCENE_VIEWS.cut,
        help="pixels along an image's border that see nothing",
    )
    parser.add_argument(
        "--depth-tolerance",
        type=float,
        default=OPENSCENE_VIEWS.depth_tolerance,
        help="share of the measured depth that a seen point may be away",
    )
    parser.add_argument(
        "--depth-units", type=float, default=DEPTH_UNITS, help="of depth images per metre"
    )
    parser.add_argument(
        "--memory", type=float, default=2.0, help="gigabytes for sums of features of one room"
    )
    parser.add_argument(
        "--compress", action="store_true", help="a seventh smaller where no features are equal"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; CUDA where there is")
    parser.add_argument("--autocast", action="store_true", help="half precision where it is enough")
    command.add_shard(parser)
    options = parser.parse_args(arguments)
    if (options.teacher is None) == (options.openscene is None):
        parser.error(f"give either --teacher ({', '.join(_dense())}, ...) or --openscene")
    if options.teacher is not None and options.frames is None:
        parser.error("give the --frames that the teacher is to look at")
    if options.memory <= 0:
        parser.error(f"--memory {options.memory}: expected more than 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuse; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: fuse(options))


def fuse(options: argparse.Namespace) -> int:
    """Fuse what the options say; returns the exit status."""
    shard = command.shard_of(options)
    store = RoomStore(options.rooms)
    vocabulary = load_vocabulary(options.vocabulary or store.manifest.vocabulary)
    store = RoomStore(options.rooms, vocabulary)  # refuses another vocabulary
    everything = store.chosen(options.split)
    rooms = shard.of(everything)
    if shard.total > 1:
        print(f"Shard {shard}: {len(rooms)} of {len(everything)} rooms.")
    if options.openscene is None:
        result = from_frames(options, store, vocabulary, rooms)
    else:
        result = from_openscene(options, store, vocabulary, rooms)
    return finish(options, shard, result, len(rooms))


def from_frames(
    options: argparse.Namespace, store: RoomStore, vocabulary: Vocabulary, rooms: Sequence[str]
) -> FusionResult:
    """Fuse what a teacher says of frames."""
    views = ViewSettings(options.cut, options.depth_tolerance)
    source = open_frames(options.frames, store, options.every, depth_units=options.depth_units)
    teacher, text, prompt = teacher_of(options, vocabulary)
    settings = {
        **teacher.settings,
        "cut": views.cut,
        "depth_tolerance": views.depth_tolerance,
        "every": options.every,
        "prompt": prompt,
    }
    if options.depth_units != DEPTH_UNITS:
        settings["depth_units"] = options.depth_units
    manifest = FeatureManifest(
        teacher.name,
        teacher.weights_hash,
        teacher.embedding_size,
        store.manifest.dataset,
        vocabulary.name,
        vocabulary.hash,
        settings=settings,
    )
    return fuse_rooms(
        store,
        rooms,
        source,
        teacher,
        FeatureWriter(options.output, manifest, text, compress=options.compress),
        views=views,
        memory=round(options.memory * GIGABYTE),
    )


def from_openscene(
    options: argparse.Namespace, store: RoomStore, vocabulary: Vocabulary, rooms: Sequence[str]
) -> FusionResult:
    """Take published features, and embed the words."""
    published = OpenSceneFeatures(options.openscene)
    size = published.embedding_size(rooms)
    if options.text is not None:
        text, prompt = read_embeddings(options.text, len(vocabulary), size), None
    elif options.weights:
        text, prompt = clip_words(options, vocabulary), options.prompt
    else:
        raise InputError(
            f"{options.openscene}: words are needed to compare these features with: name OpenAI's "
            "CLIP ViT-L/14@336 after --weights, or embeddings of the words after --text"
        )
    if text.shape[1] != size:
        raise InputError(
            f"{options.openscene}: features of {size} numbers, but words of {text.shape[1]}: they "
            "are of another teacher (LSeg's have 512), give its words after --text"
        )
    manifest = FeatureManifest(
        OPENSCENE,
        "",
        size,
        store.manifest.dataset,
        vocabulary.name,
        vocabulary.hash,
        settings={"prompt": prompt},
    )
    writer = FeatureWriter(options.output, manifest, text, compress=options.compress)
    return import_rooms(store, rooms, published, writer)


def teacher_of(
    options: argparse.Namespace, vocabulary: Vocabulary
) -> tuple[ImageTeacher, np.ndarray, str | None]:
    """The teacher, float32[W, D] of the words, and their prompt, None where it is not known."""
    if options.teacher not in teacher_names():
        files = FileTeacher(options.frames)
        if files.name != options.teacher:
            raise InputError(
                f"{options.frames}: features of the teacher {files.name!r} lie beside these "
                f"frames, not of {options.teacher!r}; those that look at images are "
                f"{', '.join(_dense())}"
            )
        return files, files.text_embeddings(vocabulary), None
    # Late, because it needs PyTorch.
    with packages_needed(options.teacher):
        from uov_jax.teachers.dense import DenseTeacher

    print(f"Loading the teacher {options.teacher!r}.", flush=True)
    made = create_teacher(
        options.teacher,
        vocabulary,
        TeacherOptions(tuple(options.weights), options.device, options.autocast),
    )
    dense = DenseTeacher(made)
    return dense, dense.text_embeddings(vocabulary.words, options.prompt), options.prompt


def clip_words(options: argparse.Namespace, vocabulary: Vocabulary) -> np.ndarray:
    """float32[W, 768]: the words by CLIP's own text tower."""
    with packages_needed(CLIP):
        from uov_jax.teachers.dense import DenseTeacher

    print("Loading CLIP for the words.", flush=True)
    made = create_teacher(CLIP, vocabulary, TeacherOptions(tuple(options.weights), options.device))
    return DenseTeacher(made).text_embeddings(vocabulary.words, options.prompt)


def finish(options: argparse.Namespace, shard: Shard, result: FusionResult, rooms: int) -> int:
    """Say what was written and what comes next; returns the exit status."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    done = result.written.values()
    points, seen = sum(room.points for room in done), sum(room.visible for room in done)
    frames, used = sum(room.frames for room in done), sum(room.used for room in done)
    print(
        f"Wrote {len(done)} rooms ({readable_bytes(result.bytes)}) to {options.output}; "
        f"{result.found} were there already. {seen:,} of {points:,} points have a feature, "
        f"{readable_bytes(peak)} of memory at most."
    )
    if frames:
        print(f"{used:,} of {frames:,} frames see points; {result.seconds:.3f} s a frame.")
    if result.failed:
        for failure in result.failed:
            print(f"room {failure.room}: {failure.reason}", file=sys.stderr)
        print(
            f"error: {len(result.failed)} of {rooms} rooms have no features: mend what is named "
            "and run the same command again, or leave these rooms out of the splits",
            file=sys.stderr,
        )
        return 1
    if shard.total > 1:
        print("Next, once every shard is done: this command without --shard finds them all there.")
        return 0
    words = ["--rooms", options.rooms, "--features", options.output]
    words += ["--output", labels_folder(options.output)]
    for split in options.split or ():
        words += ["--split", split]
    if options.vocabulary:
        words += ["--vocabulary", options.vocabulary]
    command.say_next(next_steps.script("make_pseudo_labels", *words))
    return 0


def labels_folder(features: Path) -> Path:
    """Where the pseudo labels of `data/features/maskclip` go: in `pseudo_labels` beside."""
    if features.parent.name == "features":
        return features.parent.parent / "pseudo_labels" / features.name
    return features.with_name("pseudo_labels")


def _dense() -> list[str]:
    return [name for name in teacher_names() if name != "slic"]
