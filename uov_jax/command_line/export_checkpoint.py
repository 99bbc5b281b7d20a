"""Write the network of a run as a PyTorch checkpoint that the reference's own loaders read.

    python scripts/export_checkpoint.py runs/tmp_san --output tmp_san.pt
    python scripts/export_checkpoint.py runs/esg_scannet --output esg_scannet.pth.tar

The run's last checkpoint is taken; name a folder, runs/tmp_san/checkpoints/300, for another one.
.pt and .pth hold {"model_points": state_dict, "config": ...} as SLidR and UOV write them, or
{"model_state_dict": ...} for the adapter of 3DSS-VLG; .pth.tar holds {"state_dict": ...} as
OpenScene and 3DSS-VLG write it; .safetensors and .npz need no PyTorch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.checkpoints.transfer import export_checkpoint, network_container
from uov_jax.command_line import command, next_steps


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("run", type=Path, help="directory of a run, or of one checkpoint")
    parser.add_argument(
        "--output", required=True, type=Path, help="FILE.pt, .pth, .pth.tar, .safetensors or .npz"
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
        f"{exported.path} to {options.output}."
    )
    tar = options.output.name.endswith(".pth.tar")
    if tar or options.output.suffix in (".pt", ".pth"):
        container = "state_dict" if tar else network_container(exported)
        print(
            f"PyTorch reads it with torch.load({str(options.output)!r}, weights_only=True)"
            f"[{container!r}]."
        )
    folder = options.output.with_suffix("")
    folder = folder.with_suffix("") if tar else folder
    command.say_next(next_steps.script("import_checkpoint", options.output, "--output", folder))
    card = exported.card
    if card is not None and (card["task"] not in ("tri_modal", "esg") or card["words"]):
        command.say_predict(options.output)
