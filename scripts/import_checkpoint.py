"""Read a PyTorch checkpoint of SLidR, UOV, Seal, OpenScene or DepthContrast into an Orbax one.

    python scripts/import_checkpoint.py minkunet_slidr_1gpu.pt --output runs/slidr

The network of the family that takes the most tensors is filled; every tensor that is loaded,
missing or refused is listed in OUTPUT/import.txt. Nothing is unpickled beyond tensors and plain
containers. With --config the voxels of the file's own config must be those of the recipe.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # Recipes import configs.common from a checkout.

from uov_jax.convert import (  # noqa: E402
    import_checkpoint,
    load_state_dict_file,
    reference_voxels,
    require_agreement,
)
from uov_jax.convert.networks import NetworkShape  # noqa: E402
from uov_jax.models import VARIANTS  # noqa: E402
from uov_jax.training.config import load_config  # noqa: E402

# A recipe for scores of so many classes, the ignored one included.
RECIPES = {17: "configs/annotation_free_san.py", 20: "configs/finetune_semantickitti.py"}
EMBEDDING_SIZES = (512, 640, 768)  # of CLIP's text towers


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help=".pt, .pth, .ckpt, .safetensors or .npz")
    parser.add_argument("--output", required=True, type=Path, help="directory of the new run")
    parser.add_argument("--variant", choices=sorted(VARIANTS), help="by default the one that fits")
    parser.add_argument("--config", help="recipe that the checkpoint is meant for")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Import; returns the exit status."""
    options = parse(arguments)
    try:
        checkpoint = load_state_dict_file(options.file)
        if options.config:
            data = load_config(options.config).data
            run = reference_voxels(data.voxel_size, data.cylindrical)
            for setting in require_agreement(checkpoint, run):
                print(f"{options.file} does not state {setting}: taken as the recipe's.")
        imported = import_checkpoint(checkpoint, options.output, options.variant)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{imported.shape.variant}, {imported.shape.in_channels} input channel(s), "
        f"{imported.shape.out_channels} outputs: {imported.report}\n"
        f"Wrote {imported.folder} and {options.output / 'import.txt'}.\n"
        f"Next: {next_command(options, imported.shape)}"
    )
    return 0


def next_command(options: argparse.Namespace, shape: NetworkShape) -> str:
    """Evaluation of a network whose outputs the recipe knows, training from another one."""
    outputs = shape.out_channels
    recipe = options.config or RECIPES.get(outputs, RECIPES[17])
    config = load_config(options.config or str(ROOT / recipe))
    # All recipes feed the one channel of LiDAR intensity.
    if (shape.variant, shape.in_channels) != (config.model.variant, 1):
        return f"a recipe of your own: {recipe} trains {config.model.variant} with 1 input channel"
    if config.task == "tmp":
        known = outputs in EMBEDDING_SIZES
        # The first stage starts from random weights.
        recipe = recipe if known else RECIPES.get(outputs, RECIPES[17])
        known = known or outputs in RECIPES
    else:
        known = outputs == (20 if config.data.get("dataset") == "semantickitti" else 17)
    words = ["python", f"scripts/{'evaluate' if known else 'train'}.py", "--config", recipe]
    if known:
        return shlex.join([*words, "--checkpoint", str(options.output)])
    return shlex.join([*words, f"--config.init.checkpoint={options.output}"])


if __name__ == "__main__":
    sys.exit(main())
