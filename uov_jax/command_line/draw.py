r"""Draw a scene: sweeps from above, labels over the camera images, an animation, a Rerun recording.

    python scripts/draw.py --data data/sim --version v1.0-sim --scene sim-0019 \
        --dumps data/sim/dumps/simulated --output pictures

It draws what there is: true labels where the dataset has some, a teacher's where --dumps names
them, and predictions where --predictions names a folder that scripts/evaluate.py --predictions
wrote, or a submission in the same format. No network is run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.bar import Bar
from uov_jax.command_line import command
from uov_jax.command_line.dataset import add_dataset, open_tables
from uov_jax.pictures.animation import animate
from uov_jax.pictures.bird_eye import bird_eye
from uov_jax.pictures.cameras import camera_picture
from uov_jax.pictures.rerun import require_rerun, write_recording
from uov_jax.pictures.scene import DrawnScene
from uov_jax.vocabulary import load_vocabulary


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    add_dataset(parser)
    parser.add_argument("--scene", required=True, help="name of the scene")
    parser.add_argument("--dumps", type=Path, help="folder of a teacher's dumps")
    parser.add_argument("--predictions", type=Path, help="folder of predicted labels")
    parser.add_argument(
        "--keyframes", type=command.at_least(1), help="the first so many; all by default"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of the pictures")
    command.add_vocabulary(parser)
    parser.add_argument("--animation", default=".webp", choices=(".webp", ".gif", ".png"))
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
    vocabulary = load_vocabulary(options.vocabulary)
    keyframes = open_tables(options).keyframes([options.scene])
    scene = DrawnScene(
        keyframes[: options.keyframes], vocabulary, options.dumps, options.predictions
    )
    output, names, colors = options.output, vocabulary.eval_classes, vocabulary.colors
    output.mkdir(parents=True, exist_ok=True)
    print(f"Drawing {len(scene)} keyframes of {options.scene}, some 3 s each, into {output}")
    if scene.unlabelled:
        print(f"{scene.unlabelled} of them have no true labels: their truth is drawn unlabelled.")
    for number in Bar(range(len(scene)), unit="keyframe"):
        frame = scene[number]
        stem = f"{options.scene}_{number:03d}"
        title = f"{options.scene}, {number + 1}"
        bird_eye(
            frame.points, frame.panels, colors, output / f"{stem}_above.png",
            names=names, title=title,
        )  # fmt: skip
        camera_picture(
            frame.points, frame.panels, scene.keyframes[number], colors,
            output / f"{stem}_cameras.jpg", names=names, title=title,
        )  # fmt: skip
    animation = output / f"{options.scene}{options.animation}"
    animate(iter(scene), colors, animation, names=names)
    print(f"Wrote two pictures a keyframe, and {animation}.")
    if not options.rerun:
        command.say_next(f"look at {output}")
    else:
        recording = output / f"{options.scene}.rrd"
        write_recording(iter(scene), colors, recording, names=names)
        command.say_next(f"rerun {recording}")
