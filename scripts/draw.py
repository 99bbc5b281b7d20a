r"""Draw a scene: sweeps from above, labels over the camera images, an animation, a Rerun recording.

    python scripts/draw.py --data data/sim --version v1.0-sim --scene sim-0019 \
        --dumps data/sim/dumps/simulated --output pictures

It draws what there is: true labels where the dataset has some, a teacher's where --dumps names
them, and predictions where --predictions names a folder that scripts/evaluate.py --predictions
wrote, or a submission in the same format. No network is run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tqdm

from uov_jax.data.nuscenes import NuScenesTables
from uov_jax.evaluation import pictures
from uov_jax.evaluation.animation import animate
from uov_jax.evaluation.camera_pictures import camera_picture
from uov_jax.evaluation.drawn_scene import DrawnScene
from uov_jax.evaluation.rerun_file import require_rerun, write_recording
from uov_jax.vocabulary import load_vocabulary


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="root of the dataset")
    parser.add_argument("--version", default="v1.0-trainval", help="folder of its tables")
    parser.add_argument("--scene", required=True, help="name of the scene")
    parser.add_argument("--dumps", type=Path, help="folder of a teacher's dumps")
    parser.add_argument("--predictions", type=Path, help="folder of predicted labels")
    parser.add_argument("--keyframes", type=int, help="the first so many; all by default")
    parser.add_argument("--output", required=True, type=Path, help="folder of the pictures")
    parser.add_argument("--vocabulary", default="nuscenes", help="name or file of the dictionary")
    parser.add_argument("--animation", default=".webp", choices=(".webp", ".gif", ".png"))
    parser.add_argument("--rerun", action="store_true", help="also a .rrd file for Rerun")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Draw; returns the exit status."""
    options = parse(arguments)
    try:
        draw(options)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def draw(options: argparse.Namespace) -> None:
    """Draw what the options say."""
    if options.rerun:
        require_rerun()
    if options.keyframes is not None and options.keyframes < 1:
        raise ValueError(f"--keyframes: at least 1, found {options.keyframes}")
    vocabulary = load_vocabulary(options.vocabulary)
    keyframes = NuScenesTables(options.data, options.version).keyframes([options.scene])
    scene = DrawnScene(
        keyframes[: options.keyframes], vocabulary, options.dumps, options.predictions
    )
    output, names, colors = options.output, vocabulary.eval_classes, vocabulary.colors
    output.mkdir(parents=True, exist_ok=True)
    print(f"Drawing {len(scene)} keyframes of {options.scene}, some 3 s each, into {output}")
    for number in tqdm.trange(len(scene), unit="keyframe"):
        frame = scene[number]
        stem = f"{options.scene}_{number:03d}"
        title = f"{options.scene}, {number + 1}"
        pictures.bird_eye(
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
        print(f"Next: look at {output}")
    else:
        recording = output / f"{options.scene}.rrd"
        write_recording(iter(scene), colors, recording, names=names)
        print(f"Next: rerun {recording}")


if __name__ == "__main__":
    sys.exit(main())
