"""Write the network of a run as a PyTorch checkpoint that the reference's own loaders read.

    python scripts/export_checkpoint.py runs/tmp_san --output tmp_san.pt

The run's last checkpoint is taken; name a folder, runs/tmp_san/checkpoints/300, for another one.
.pt and .pth hold {"model_points": state_dict, "config": ...} as SLidR and UOV write them;
.safetensors and .npz need no PyTorch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.checkpoints.transfer import export_checkpoint
from uov_jax.command_line import command, next_steps


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("run", type=Path, help="directory of a run, or of one checkpoint")
    parser.add_argument(
        "--output", required=True, type=Path, help="FILE.pt, .pth, .safetensors or .npz"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: export(options), stopped="Nothing was written.")


def export(options: argparse.Namespace) -> None:
    """Export what the options say."""
    exported = export_checkpoint(options.run, options.output)
    values = sum(value.size for value in exported.state_dict.values())
    print(
        f"Wrote {len(exported.state_dict)} tensors of {values:,} values from "
        f"{exported.path} to {options.output}. PyTorch reads it with "
        f"torch.load({str(options.output)!r}, weights_only=True)['model_points']."
    )
    folder = options.output.with_suffix("")
    command.say_next(next_steps.script("import_checkpoint", options.output, "--output", folder))
