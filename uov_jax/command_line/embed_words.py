r"""Embed the words of a vocabulary by a teacher, to judge networks of rooms by other words.

    python scripts/embed_words.py --teacher maskclip --weights ViT-L-14-336px.pt \
        --vocabulary s3dis --output data/s3dis-words

A network that was trained into the space of a teacher knows no classes: with these words,
scripts/evaluate.py judges one that saw ScanNet on S3DIS, and the other way round.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uov_jax.command_line import command, next_steps
from uov_jax.fusion.features import FeatureManifest, FeatureWriter
from uov_jax.fusion.prompts import OPENSCENE_PROMPT
from uov_jax.teachers import TeacherOptions, create_teacher, packages_needed, teacher_names
from uov_jax.vocabulary import load_vocabulary

WORDS = "words"  # the kind of a folder that has words alone


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--teacher", required=True, choices=teacher_names())
    parser.add_argument(
        "--weights", nargs="+", default=[], type=Path, help="the teacher's official file(s)"
    )
    parser.add_argument("--vocabulary", required=True, help="name or file of the dictionary")
    parser.add_argument(
        "--prompt",
        default=OPENSCENE_PROMPT,
        help='around each word, the one that features were fused with; "{}" for bare words',
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; CUDA where there is")
    parser.add_argument("--output", required=True, type=Path, help="folder of the words")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Embed; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: embed(options), stopped="")


def embed(options: argparse.Namespace) -> None:
    """Embed the words that the options say."""
    vocabulary = load_vocabulary(options.vocabulary)
    with packages_needed(options.teacher):
        from uov_jax.teachers.dense import DenseTeacher
    print(f"Loading the teacher {options.teacher!r}.", flush=True)
    settings = TeacherOptions(tuple(options.weights), options.device)
    teacher = DenseTeacher(create_teacher(options.teacher, vocabulary, settings))
    text = teacher.text_embeddings(vocabulary.words, options.prompt)
    manifest = FeatureManifest(
        teacher.name,
        teacher.weights_hash,
        text.shape[1],
        "",
        vocabulary.name,
        vocabulary.hash,
        kind=WORDS,
        settings={"prompt": options.prompt},
    )
    FeatureWriter(options.output, manifest, text)
    print(f"Wrote {len(text)} words of {text.shape[1]} numbers each to {options.output}.")
    command.say_next(
        next_steps.script(
            "evaluate",
            *("--config", "configs/esg_scannet.py", "--checkpoint", "runs/esg_scannet"),
            *("--split", "val", "--output", f"runs/transfer-{options.output.resolve().name}"),
            f"--config.data.root=data/{vocabulary.name}/store",
            f"--config.data.vocabulary={options.vocabulary}",
            f"--config.data.text={options.output}",
            "--config.data.features=",
        )
    )
