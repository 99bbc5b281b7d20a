"""Write specialised features of rooms with the adapter that ESS trained, for ESG to learn from.

    python scripts/export_features.py --config configs/ess_scannet.py:sim

It takes the run's best checkpoint by validation, and writes the features of the recipe's training
and validation rooms to `specialised` beside the fused ones. Stop it at any time: the same command
goes on where it stopped. With --shard 3/16, or as one of several Slurm tasks or members of an
indexed job, it does its share of the rooms; all shares go into the same folder.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from uov_jax.bar import Bar
from uov_jax.checkpoints.folder import read_record
from uov_jax.checkpoints.run import find_best_checkpoint, say_if_unfinished
from uov_jax.command_line import command, next_steps
from uov_jax.command_line.recipe import add_recipe, parse_fields, read_recipe
from uov_jax.config import default_directory, find_recipe, split_spec
from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError, MissingFileError
from uov_jax.fusion.features import FeatureFolder, FeatureWriter
from uov_jax.fusion.pseudo_labels import features_identity
from uov_jax.readable import readable_bytes
from uov_jax.vocabulary import load_vocabulary

# Fields of a recipe's data that both stages share.
KEPT = ("root", "vocabulary", "train_split", "val_split")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command.parser(__doc__)
    add_recipe(parser)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="of the adapter: run, checkpoint or PyTorch file; runs/RECIPE-VARIANT by default",
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the features; `specialised` beside the fused ones"
    )
    parser.add_argument(
        "--split", action="append", help="several times for several; by default the recipe's"
    )
    command.add_shard(parser)
    return parse_fields(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export; returns the exit status."""
    options = parse(arguments)
    return command.run(lambda: export(options))


def export(options: argparse.Namespace) -> None:
    """Export what the options say."""
    config = read_recipe(options)
    if config.task != "ess":
        raise InputError(
            f"{options.config}: a recipe of the task {config.task!r}; features are exported with "
            "one of 'ess', such as configs/ess_scannet.py"
        )
    # Late, so that wrong arguments are answered at once.

    from uov_jax.fusion.specialise import specialise_rooms, specialised_manifest

    data = config.data
    vocabulary = load_vocabulary(data.vocabulary)
    store = RoomStore(data.root, vocabulary)
    features = FeatureFolder(data.features, vocabulary)
    splits = options.split or [split for split in (data.train_split, data.val_split) if split]
    everything = list(dict.fromkeys(room for split in splits for room in store.split(split)))
    features.check(everything)
    shard = command.shard_of(options)
    rooms = shard.of(everything)
    checkpoint = options.checkpoint or default_directory(options.config)
    tensors, adapt = load_adapter(config, checkpoint, features)
    output = options.output or Path(data.features).parent / "specialised"
    manifest = specialised_manifest(features, tensors, config.model.to_dict())
    writer = FeatureWriter(output, manifest, features.text_embeddings)
    todo = [room for room in rooms if not writer.has(room)]
    size = 2 * features.manifest.embedding_size * sum(map(features.num_seen, todo))
    share = f"Shard {shard}: " if shard.total > 1 else ""
    print(
        f"{share}{len(todo):,} of {len(rooms):,} rooms to specialise: about "
        f"{readable_bytes(size)} into {output}",
        flush=True,
    )
    written = points = 0
    bar = Bar(total=len(rooms), unit="room", dynamic_ncols=True)
    with bar:
        for done in specialise_rooms(store, features, writer, adapt, rooms):
            written += done.written
            points += done.points
            bar.update()
    print(
        f"Wrote {written:,} rooms to {output}; {len(rooms) - written:,} were there before. They "
        f"have features of {points:,} points."
    )
    if shard.total > 1:
        print("Next: once every shard is done, train on them")
    command.say_next(training_command(options, config, output))


def load_adapter(
    config: ConfigDict, checkpoint: Path, features: FeatureFolder
) -> tuple[dict[str, np.ndarray], Any]:
    """The tensors of an adapter, and the adapter as a function of `Adapt`'s form.

    Raises:
        CheckpointError, InputError: there is none, or it was trained on other features or with
            other settings than the recipe's.

    """
    import jax

    from uov_jax import sparse
    from uov_jax.checkpoints.load import load_network
    from uov_jax.tasks.ess import adapter

    if not checkpoint.exists():
        raise MissingFileError(
            f"{checkpoint}: no adapter there: train one with scripts/train.py and this recipe, or "
            "name it with --checkpoint"
        )
    place = find_best_checkpoint(checkpoint) if checkpoint.is_dir() else checkpoint
    size = features.manifest.embedding_size
    if place.is_dir():
        say_if_unfinished(checkpoint)
        trained_on = read_record(place)["identity"].get("features")
        if trained_on is not None and trained_on != features_identity(features):
            raise InputError(
                f"{place}: this adapter was trained on other features than those of "
                f"{features.root}: name them with --config.data.features"
            )

    check_settings(place, config.model)

    def build(rngs: Any, axis_name: str | None) -> Any:
        del axis_name
        return adapter(config.model, size, rngs)

    network = load_network(build, place, None)
    print(f"The adapter of {place}.", flush=True)
    run = functools.partial(jax.jit(network.predict()), jax.device_put(network.state))
    tensors = {name: np.asarray(value) for name, value in network.state.parameters.items()}

    def adapt(part: np.ndarray) -> np.ndarray:
        rows = np.asarray(run({"features": part}))
        sparse.raise_fault()
        return rows

    return tensors, adapt


def check_settings(place: Path, model: ConfigDict) -> None:
    """InputError unless the recipe's adapter is the one that was trained.

    Not every setting shows in the tensors: how much of a feature is kept does not. The published
    file does not tell it, nor do others without a record.
    """
    from uov_jax.checkpoints.load import read_network

    trained = (read_network(place).config or {}).get("model")
    for name, value in trained.items() if isinstance(trained, Mapping) else ():
        if name in model and model[name] != value:
            raise InputError(
                f"{place}: this adapter was trained with config.model.{name} = {value}, the recipe "
                f"has {model[name]}: give --config.model.{name}={value}"
            )


def training_command(options: argparse.Namespace, config: ConfigDict, output: Path) -> str:
    """The command that distils the features: ESG's recipe of the same data."""
    path, variant = split_spec(options.config)
    recipe = path.with_name(path.name.replace("ess_", "esg_", 1))
    if recipe == path or not find_recipe(recipe):
        recipe = Path("configs/esg_scannet.py")
    fields = {f"data.{name}": config.data[name] for name in KEPT} | {"data.features": output}
    words, _ = next_steps.training(
        str(recipe) + ":sim" * (variant == "sim"), fields, output.resolve().parent.name
    )
    return words
