"""Read a PyTorch checkpoint of another trainer into an Orbax one.

    python scripts/import_checkpoint.py minkunet_slidr_1gpu.pt --output runs/slidr

Those of SLidR, UOV, Seal, OpenScene, 3DSS-VLG (its adapter too) and DepthContrast are known. The
network that takes the most tensors is filled; every tensor that is loaded,
missing or refused is listed in OUTPUT/import.txt. Nothing is unpickled beyond tensors and plain
containers. With --config the voxels of the file's own config must be those of the recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.checkpoints.agreement import reference_voxels, require_agreement
from uov_jax.checkpoints.files import load_state_dict_file
from uov_jax.checkpoints.shape import ADAPTER, NetworkShape
from uov_jax.checkpoints.transfer import import_checkpoint
from uov_jax.command_line import command, next_steps
from uov_jax.config import load_config
from uov_jax.models import VARIANTS

# A recipe for scores of so many classes, the ignored one included.
RECIPE_OF_CLASSES = {17: "configs/annotation_free_san.py", 20: "configs/finetune_semantickitti.py"}
EMBEDDING_SIZES = (512, 640, 768)  # of CLIP's text towers
# Of rooms, whose networks have three channels in and an embedding out.
ROOM_RECIPES = {
    "minkunet18a": "configs/esg_scannet.py",
    "minkunet14a": "configs/esg_scannet.py:14a",
    ADAPTER: "configs/ess_scannet.py",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("file", type=Path, help=".pt, .pth, .ckpt, .safetensors or .npz")
    parser.add_argument("--output", required=True, type=Path, help="directory of the new run")
    parser.add_argument("--variant", choices=sorted(VARIANTS), help="by default the one that fits")
    parser.add_argument("--config", help="recipe that the checkpoint is meant for")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Import; returns the exit status."""
    options = parse(arguments)
    return command.run(
        lambda: import_file(options), stopped="Type the same command with another --output."
    )


def import_file(options: argparse.Namespace) -> None:
    """Import what the options say."""
    checkpoint = load_state_dict_file(options.file)
    if options.config:
        data = load_config(options.config).data
        run = None  # An adapter sees no voxels.
        if "voxel_size" in data:
            run = reference_voxels(data.voxel_size, data.cylindrical)
        for setting in require_agreement(checkpoint, run) if run else ():
            print(f"{options.file} does not state {setting}: taken as the recipe's.")
    imported = import_checkpoint(checkpoint, options.output, options.variant)
    print(
        f"{imported.shape.variant}, {imported.shape.in_channels} input channel(s), "
        f"{imported.shape.out_channels} outputs: {imported.report}\n"
        f"Wrote {imported.folder} and {options.output / 'import.txt'}."
    )
    command.say_next(next_command(options, imported.shape))


def next_command(options: argparse.Namespace, shape: NetworkShape) -> str:
    """Evaluation of a network whose outputs the recipe knows, training from another one."""
    if shape.variant == ADAPTER:
        recipe = options.config or ROOM_RECIPES[ADAPTER]
        words = ["--config", recipe, "--checkpoint", options.output]
        return next_steps.script("export_features", *words)
    outputs = shape.out_channels
    if shape.in_channels == 3 and outputs in EMBEDDING_SIZES and shape.variant in ROOM_RECIPES:
        recipe = options.config or ROOM_RECIPES[shape.variant]
        return next_steps.script("evaluate", "--config", recipe, "--checkpoint", options.output)
    recipe = options.config or RECIPE_OF_CLASSES.get(outputs, RECIPE_OF_CLASSES[17])
    config = load_config(recipe)
    # All recipes of sweeps feed the one channel of LiDAR intensity.
    if (shape.variant, shape.in_channels) != (config.model.variant, 1):
        return f"a recipe of your own: {recipe} trains {config.model.variant} with 1 input channel"
    if config.task == "tri_modal":
        known = outputs in EMBEDDING_SIZES
        # The first stage starts from random weights.
        recipe = recipe if known else RECIPE_OF_CLASSES.get(outputs, RECIPE_OF_CLASSES[17])
        known = known or outputs in RECIPE_OF_CLASSES
    else:
        known = outputs == (20 if config.data.get("dataset") == "semantickitti" else 17)
    if known:
        return next_steps.script("evaluate", "--config", recipe, "--checkpoint", options.output)
    fields = {"init.checkpoint": options.output}
    return next_steps.training(recipe, fields, options.output.resolve().name)[0]
