r"""The whole method on the simulated drive, and one table like the paper's: `make demo`.

    python scripts/demo.py              # half an hour on two cores
    python scripts/demo.py --seeds 3    # an hour and a half

It types the commands of the stages one after the other and says each of them: tri-modal
pre-training, superpoints, annotation-free training after it and from random weights, evaluation
with AFI, linear probing and fine-tuning on one scene from random, pre-trained and annotation-free
weights. Fields of the recipes can be changed for all of them alike, as in training:

    python scripts/demo.py --output runs/brief --config.total_steps=20

Stop it at any time: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from uov_jax.command_line import command
from uov_jax.command_line.chain import Stage, last_metric, mean_iou, run, write_report
from uov_jax.command_line.recipe import parse_fields
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.errors import MissingFileError
from uov_jax.evaluation.orderings import verdicts
from uov_jax.evaluation.transfer_table import (
    ANNOTATION_FREE,
    ORDERINGS,
    PRETRAINED,
    RANDOM,
    STARTS,
    ChainScores,
    besides,
    transfer_table,
)

DATA = Path("data/sim")
# Where `make train` puts it, which is the chain's first stage.
FIRST_PRETRAINING = Path("runs/tmp_san-sim")
VERSION = "v1.0-sim"
DUMPS, PSEUDO_LABELS = Path("dumps", "simulated"), Path("superpoints", "simulated")
CHECKPOINT_GIGABYTES = 0.4
# The published 4,096 are too few for narrow strips of pavement; docs/demo.md has the numbers.
AFI_POINTS = 65_536


class Chain:
    """The stages with one seed, and what they score.

    Attributes:
        pretraining: directory of the first stage.
        directory: of the others.
        evaluation: directory of the annotation-free networks' scores and pictures.
        stages: in their order.

    """

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        """Name directories and commands; nothing is read or written."""
        self.data, self.fields, self.seed = options.data, tuple(options.fields), seed
        self.directory = options.output / f"seed-{seed}"
        self.evaluation = self.directory / "evaluation"
        shared = seed == 0 and self.data == DATA and not self.fields
        self.pretraining = FIRST_PRETRAINING if shared else self.directory / "tri_modal"
        starts = {RANDOM: "", PRETRAINED: str(self.pretraining)}
        trained = [self._annotation_free(start, weights) for start, weights in starts.items()]
        starts[ANNOTATION_FREE] = str(self._run("annotation_free", PRETRAINED))
        self.stages = [
            self._pretraining(),
            self._superpoints(),
            *trained,
            self._evaluation(),
            *(self._transfer("linear_probing", *start, 55) for start in starts.items()),
            *(self._transfer("finetune", *start, 120) for start in starts.items()),
        ]

    def scores(self) -> ChainScores:
        """What the finished stages left in their tables.

        Raises:
            MissingFileError: a stage has left none.
            InputError: a table lacks what is looked for; names it.

        """
        names = {start: self._run("annotation_free", start).name for start in (RANDOM, PRETRAINED)}
        table = self.evaluation / "scores.csv"
        return ChainScores(
            teacher_seen=mean_iou(table, "teacher, seen"),
            zero_shot=last_metric(self.pretraining, "zero_shot_miou"),
            annotation_free={start: mean_iou(table, name) for start, name in names.items()},
            annotation_free_seen={
                start: mean_iou(self.evaluation / "subsets" / f"{name}.csv", "seen")
                for start, name in names.items()
            },
            smoothed={
                start: mean_iou(table, f"{name} + AFI {AFI_POINTS}")
                for start, name in names.items()
            },
            smoothed_as_published={
                start: mean_iou(table, f"{name} + AFI") for start, name in names.items()
            },
            afi_points=AFI_POINTS,
            linear_probing=self._transferred("linear_probing"),
            finetuning=self._transferred("finetune"),
        )

    def _run(self, stage: str, start: str) -> Path:
        return self.directory / f"{stage}-{start}"

    def _transferred(self, stage: str) -> dict[str, float]:
        return {start: last_metric(self._run(stage, start), "miou") for start in STARTS}

    def _train(
        self, title: str, recipe: str, directory: Path, seconds: float, **fields: str
    ) -> Stage:
        if self.data != DATA:
            fields["data.root"] = str(self.data)
        arguments = ["--config", f"configs/{recipe}.py:sim", "--workdir", str(directory)]
        # One device: a step of one sweep does not divide.
        arguments += ["--devices=1", f"--config.seed={self.seed}"]
        arguments += [f"--config.{name}={value}" for name, value in fields.items()]
        arguments += self.fields
        return Stage(
            title,
            "train",
            tuple(arguments),
            directory / "tables",
            seconds,
            CHECKPOINT_GIGABYTES,
        )

    def _pretraining(self) -> Stage:
        fields = {}
        if self.data != DATA:
            fields["data.dumps"] = str(self.data / DUMPS)
        return self._train("Tri-modal pre-training", "tmp_san", self.pretraining, 370, **fields)

    def _superpoints(self) -> Stage:
        arguments = ["--data", str(self.data), "--version", VERSION]
        arguments += ["--split", "sim_train", "--split", "sim_val"]
        arguments += ["--dumps", str(self.data / DUMPS)]
        output = self.data / PSEUDO_LABELS
        arguments += ["--output", str(output)]
        result = output / "purity.csv"
        return Stage("Superpoints", "make_superpoints", tuple(arguments), result, 8)

    def _annotation_free(self, start: str, weights: str) -> Stage:
        return self._train(
            f"Annotation-free training from {STARTS[start]}",
            "annotation_free_san",
            self._run("annotation_free", start),
            310,
            **{"init.checkpoint": weights},
            **self._labels(),
        )

    def _labels(self) -> dict[str, str]:
        return {} if self.data == DATA else {"data.labels": str(self.data / PSEUDO_LABELS)}

    def _evaluation(self) -> Stage:
        arguments = ["--config", "configs/annotation_free_san.py:sim"]
        for start in (RANDOM, PRETRAINED):
            arguments += ["--checkpoint", str(self._run("annotation_free", start))]
        arguments += ["--afi", f"--afi-points={AFI_POINTS}", "--predictions"]
        arguments += ["--output", str(self.evaluation)]
        fields = self._labels()
        if self.data != DATA:
            fields["data.root"] = str(self.data)
        arguments += [f"--config.{name}={value}" for name, value in fields.items()]
        arguments += self.fields
        result = self.evaluation / "scores.csv"
        return Stage("Evaluation with AFI", "evaluate", tuple(arguments), result, 45)

    def _transfer(self, stage: str, start: str, weights: str, seconds: float) -> Stage:
        title = {"linear_probing": "Linear probing", "finetune": "Fine-tuning on one scene"}[stage]
        return self._train(
            f"{title} from {STARTS[start]}",
            f"{stage}_nuscenes",
            self._run(stage, start),
            seconds,
            **{"init.checkpoint": weights},
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `fields` are the recipes' fields in it."""
    parser = command.parser(__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="root of the simulated drive")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder of the runs")
    parser.add_argument(
        "--seeds", type=command.at_least(1), default=1, help="chains, with seeds 0, 1, ..."
    )
    options = parse_fields(parser, arguments)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chains and print their table; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: demo(options))


def demo(options: argparse.Namespace) -> int:
    """Run the chains that the options say; returns the exit status."""
    if not (options.data / VERSION).is_dir():
        raise MissingFileError(
            f"{options.data}: no simulated drive there: "
            f"python scripts/simulate.py --output {options.data}"
        )
    chains = [Chain(options, seed) for seed in range(options.seeds)]
    status = run([stage for chain in chains for stage in chain.stages])
    if not status:
        report(options.output, chains)
    return status


def report(output: Path, chains: Sequence[Chain]) -> None:
    """Print the table of all chains and what to look at next; write it as text and markdown."""
    scores = [chain.scores() for chain in chains]
    seeds = ", ".join(str(chain.seed) for chain in chains)
    title = (
        f"SIMULATED drive, mean IoU of 16 classes on all points of the validation scenes, "
        f"seed {seeds}"
    )
    lines = [*besides(scores), "", *(f"- {line}" for line in verdicts(ORDERINGS, scores))]
    write_report(output, title, lambda style: transfer_table(scores, style), lines, len(chains))
    drawn = shlex.join(drawing(chains[0], output / "scene"))
    command.say_next(f"look at {chains[0].evaluation / 'pictures'}", drawn)


def drawing(chain: Chain, output: Path) -> list[str]:
    """The command that draws a scene of validation with the best predictions."""
    scene = NuScenesTables(chain.data, VERSION).keyframes("sim_val")[-1].scene
    command = ["python", "scripts/draw.py", "--data", str(chain.data), "--version", VERSION]
    command += ["--scene", scene, "--dumps", str(chain.data / DUMPS)]
    predictions = chain.evaluation / "predictions" / f"annotation_free-tri_modal_AFI_{AFI_POINTS}"
    return [*command, "--predictions", str(predictions), "--output", str(output)]
