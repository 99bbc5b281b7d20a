r"""3DSS-VLG as a whole on simulated rooms, and one table like its ablation: `make demo-indoor`.

    python scripts/demo_indoor.py              # one seed
    python scripts/demo_indoor.py --seeds 3

It types the commands of the stages one after the other and says each of them: simulated rooms,
fusion of their images' features, pseudo labels with and without the scene-level filter, ESS,
export of specialised features, ESG from specialised and from fused features, evaluation. Every
seed has its own rooms. Fields that all the recipes have can be changed for all trainings alike, as
in training:

    python scripts/demo_indoor.py --output runs/brief-indoor --config.total_steps=20

Stop it at any time: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from uov_jax.command_line import command
from uov_jax.command_line.chain import Stage, mean_iou, require_result, run, write_report
from uov_jax.command_line.recipe import change_fields, parse_fields
from uov_jax.config import load_config
from uov_jax.errors import InputError
from uov_jax.evaluation.orderings import verdicts
from uov_jax.evaluation.room_table import ORDERINGS, RoomScores, room_table
from uov_jax.evaluation.scoring import BY_FEW, SEEN
from uov_jax.files import DAMAGE, read_bytes
from uov_jax.fusion.features import MANIFEST

DATA = Path("data/sim-rooms")
SPECIALISED, PLAIN = "configs/esg_scannet.py:sim", "configs/esg_scannet.py:sim-plain"
ADAPTER = "configs/ess_scannet.py:sim"
FUSED_2D, SPECIALISED_2D = "fused 2D", "specialised 2D"


class RoomChain:
    """The stages with one seed, and what they score.

    Attributes:
        data: folder of the rooms and of everything made of them.
        directory: of the trainings and evaluations.
        stages: in their order.

    """

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        """Name directories and commands; nothing is read or written."""
        self.seed, self.fields, self.rooms = seed, tuple(options.fields), options.rooms
        self.data: Path = options.data
        if seed:
            self.data = options.data.with_name(f"{options.data.name}-seed-{seed}")
        self.directory: Path = options.output / f"seed-{seed}"
        self.stages = [
            self._simulation(),
            self._fusion(),
            self._labels(filtered=True),
            self._labels(filtered=False),
            self._train("ESS: an adapter of the features", ADAPTER, "ess", 45, 0.01),
            self._export(),
            self._train("ESG: a student of the specialised features", SPECIALISED, "esg", 400, 0.2),
            self._train("ESG: a student of the fused features", PLAIN, "esg-fused", 400, 0.2),
            self._evaluation(
                "Evaluation of both students, beside the fused features",
                "evaluation",
                "features",
                ["--checkpoint", str(self.directory / "esg")]
                + ["--checkpoint", str(self.directory / "esg-fused")],
            ),
            self._evaluation(
                "Evaluation of the specialised features", "evaluation-features", "specialised", []
            ),
        ]

    def scores(self) -> RoomScores:
        """What the finished stages left in their tables.

        Raises:
            MissingFileError: a stage has left none.
            InputError: a table lacks what is looked for; names it.

        """
        judged = self.directory / "evaluation"
        scores, subsets = judged / "scores.csv", judged / "subsets"
        fused = subsets / f"{FUSED_2D.replace(' ', '_')}.csv"
        specialised = self.directory / "evaluation-features" / "subsets"
        return RoomScores(
            labels_unfiltered=_mean_iou_of_labels(self.data / "pseudo_labels-unfiltered"),
            labels=_mean_iou_of_labels(self.data / "pseudo_labels"),
            fused=mean_iou(fused, SEEN),
            specialised=mean_iou(specialised / f"{SPECIALISED_2D.replace(' ', '_')}.csv", SEEN),
            fused_everywhere=mean_iou(scores, FUSED_2D),
            fused_by_few=mean_iou(fused, BY_FEW),
            student_of_fused=mean_iou(scores, "esg-fused"),
            student=mean_iou(scores, "esg"),
            student_by_few=mean_iou(subsets / "esg.csv", BY_FEW),
            ensemble=mean_iou(scores, f"esg + {FUSED_2D}"),
        )

    def _simulation(self) -> Stage:
        arguments = ["--output", str(self.data), "--seed", str(self.seed)]
        if self.rooms is not None:
            arguments += ["--rooms", str(self.rooms)]
        result = self.data / "store" / "splits" / "val.txt"
        return Stage("Simulated rooms", "simulate_rooms", tuple(arguments), result, 120, 0.9)

    def _fusion(self) -> Stage:
        arguments = [*self._rooms(), "--frames", str(self.data / "frames")]
        arguments += ["--teacher", "simulated", "--output", str(self.data / "features")]
        result = self.data / "features" / MANIFEST.name
        return Stage(
            "Fusion of the images' features", "fuse_features", tuple(arguments), result, 60, 1
        )

    def _labels(self, *, filtered: bool) -> Stage:
        output = self.data / ("pseudo_labels" if filtered else "pseudo_labels-unfiltered")
        arguments = [*self._rooms(), "--features", str(self.data / "features")]
        arguments += ["--split", "train", "--output", str(output)]
        title = "Pseudo labels with the scene-level filter"
        if not filtered:
            arguments.append("--no-filter")
            title = "Pseudo labels without it, to compare"
        return Stage(title, "make_pseudo_labels", tuple(arguments), output / "report.json", 15)

    def _train(self, title: str, recipe: str, name: str, seconds: float, gigabytes: float) -> Stage:
        directory = self.directory / name
        arguments = ["--config", recipe, "--workdir", str(directory), "--devices=1"]
        arguments += [f"--config.seed={self.seed}"]
        arguments += self._places("specialised" if name == "esg" else "features")
        if name == "ess":
            arguments += [f"--config.data.labels={self.data / 'pseudo_labels'}"]
        arguments += self.fields
        result = directory / "tables"
        return Stage(title, "train", tuple(arguments), result, seconds, gigabytes)

    def _export(self) -> Stage:
        arguments = ["--config", ADAPTER, "--checkpoint", str(self.directory / "ess")]
        output = self.data / "specialised"
        arguments += ["--output", str(output), *self._places("features"), *self.fields]
        result = output / MANIFEST.name
        return Stage("Specialised features", "export_features", tuple(arguments), result, 30, 1)

    def _evaluation(
        self, title: str, name: str, features: str, checkpoints: Sequence[str]
    ) -> Stage:
        output = self.directory / name
        arguments = ["--config", SPECIALISED, *checkpoints, "--output", str(output)]
        arguments += [*self._places(features), *self.fields]
        return Stage(title, "evaluate", tuple(arguments), output / "scores.csv", 60)

    def _rooms(self) -> list[str]:
        return ["--rooms", str(self.data / "store")]

    def _places(self, features: str) -> list[str]:
        if self.data == DATA and features == "specialised":
            return []
        return [
            f"--config.data.root={self.data / 'store'}",
            f"--config.data.features={self.data / features}",
        ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `fields` are the recipes' fields in it."""
    parser = command.parser(__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the simulated rooms")
    # Two of three are for training, and fill the recipes' batch.
    parser.add_argument("--rooms", type=command.at_least(3), help="how many are simulated")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo-indoor"), help="folder of the runs"
    )
    parser.add_argument(
        "--seeds", type=command.at_least(1), default=1, help="chains, with seeds 0, 1, ..."
    )
    return parse_fields(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chains and print their table; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: demo(options))


def demo(options: argparse.Namespace) -> int:
    """Run the chains that the options say; returns the exit status."""
    # Else the first stage with a recipe would refuse them, minutes later.
    for recipe in (ADAPTER, SPECIALISED, PLAIN):
        change_fields(load_config(recipe), options.fields)
    chains = [RoomChain(options, seed) for seed in range(options.seeds)]
    status = run([stage for chain in chains for stage in chain.stages])
    if not status:
        report(options.output, chains)
    return status


def report(output: Path, chains: Sequence[RoomChain]) -> None:
    """Print the table of all chains and what to look at next; write it as text and markdown."""
    scores = [chain.scores() for chain in chains]
    seeds = ", ".join(str(chain.seed) for chain in chains)
    title = f"SIMULATED rooms, mean IoU of 20 classes, seed {seeds}"
    lines = [f"- {line}" for line in verdicts(ORDERINGS, scores)]
    write_report(output, title, lambda style: room_table(scores, style), lines, len(chains))
    command.say_next(f"look at {chains[0].directory / 'evaluation' / 'pictures'}")


def _mean_iou_of_labels(folder: Path) -> float:
    path = folder / "report.json"
    require_result(path)
    try:
        return float(json.loads(read_bytes(path).decode())["mean_iou"])
    except DAMAGE as error:
        raise InputError(f"{path}: no 'mean_iou' of the pseudo labels: {error}") from error
