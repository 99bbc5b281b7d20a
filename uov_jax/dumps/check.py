"""Whether dumps belong to their keyframes: of one keyframe, and of a finished folder."""

from __future__ import annotations

from collections.abc import Sequence

from uov_jax.bar import Bar
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.dumps.file import CameraMasks, DumpError, TeacherDump
from uov_jax.dumps.folder import DumpSource, MissingDumpError
from uov_jax.errors import UserError


def matching_cameras(keyframe: Keyframe, dump: TeacherDump) -> list[CameraMasks]:
    """The dump's masks in the order of the keyframe's cameras.

    Raises:
        DumpError: a camera is missing, or its masks are of another image or of another size.

    """
    matched = []
    for view in keyframe.cameras:
        masks = dump.camera(view.channel)
        if masks.token != view.token:
            raise DumpError(
                f"dump of keyframe {keyframe.token}: the masks of {view.channel} are of the image "
                f"{masks.token}, expected {view.token}"
            )
        if masks.image_size != (view.height, view.width):
            raise DumpError(
                f"dump of keyframe {keyframe.token}: the masks of {view.channel} are "
                f"{masks.image_size} pixels (height, width), the image is "
                f"{(view.height, view.width)}"
            )
        matched.append(masks)
    return matched


def find_problems(dumps: DumpSource, keyframes: Sequence[Keyframe]) -> list[str]:
    """What is wrong with the dumps of some keyframes; empty if nothing is.

    Every file is read whole: it must be there, be complete, be of the folder's teacher, weights and
    vocabulary, and have masks of every camera's image in that image's size.
    """
    problems = []
    try:
        _ = dumps.text_embeddings
    except UserError as error:
        problems.append(str(error))
    for keyframe in Bar(keyframes, unit="keyframe", desc="check", disable=not keyframes):
        try:
            matching_cameras(keyframe, dumps.read(keyframe))
        except MissingDumpError:
            problems.append(f"{dumps.root}: keyframe {keyframe.token} has no dump")
        except UserError as error:  # Damaged, of something else, or not readable.
            problems.append(str(error))
    return problems
