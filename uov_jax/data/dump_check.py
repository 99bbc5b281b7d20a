"""Verification of a finished dump against the dataset it was made of."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from uov_jax.data.dump import DumpError, DumpSource, MissingDumpError
from uov_jax.data.nuscenes import Keyframe
from uov_jax.data.superpoints import matching_cameras


def find_problems(dumps: DumpSource, keyframes: Sequence[Keyframe]) -> list[str]:
    """What is wrong with the dumps of some keyframes; empty if nothing is.

    Every file is read whole: it must be there, be complete, be of the folder's teacher, weights and
    vocabulary, and have masks of every camera's image in that image's size.
    """
    problems = []
    try:
        _ = dumps.text_embeddings
    except DumpError as error:
        problems.append(str(error))
    for keyframe in tqdm(keyframes, unit="keyframe", desc="check", disable=not keyframes):
        try:
            matching_cameras(keyframe, dumps.read(keyframe))
        except MissingDumpError:
            problems.append(f"{dumps.root}: keyframe {keyframe.token} has no dump")
        except DumpError as error:
            problems.append(str(error))
    return problems
