"""Dumps from the reference's format to the native one, and back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from uov_jax.bar import Bar
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.dumps.file import DumpError
from uov_jax.dumps.folder import DumpFolder, DumpManifest, image_sizes
from uov_jax.dumps.reference import (
    ReferenceDumpFolder,
    write_reference_dump,
    write_reference_text,
)
from uov_jax.readable import readable_bytes
from uov_jax.vocabulary import Vocabulary

SAMPLE = 4  # keyframes after which the size of all is estimated


class Converted(NamedTuple):
    """Keyframes written now and found done, and bytes written now."""

    written: int
    found: int
    bytes: int


def to_native(
    source: ReferenceDumpFolder,
    keyframes: Sequence[Keyframe],
    output: str | Path,
    vocabulary: Vocabulary,
    say: Callable[[str], None] = print,
) -> Converted:
    """Write native dumps of the reference's; embeddings become half precision.

    The reference's files do not say which weights they were made with: the hash is empty.

    Raises:
        MissingDumpError: a keyframe has no dump in the source; found before anything is written.
        DumpError: a file is corrupt, or the output holds other dumps.
        InputError: images of one camera in different sizes.

    """
    source.check(keyframes)
    manifest = DumpManifest(
        teacher=source.teacher,
        weights_hash="",
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        embedding_size=source.embedding_size,
        image_sizes=image_sizes(keyframes),
    )
    folder = DumpFolder.create(output, manifest, source.text_embeddings)

    def is_done(keyframe: Keyframe) -> bool:
        return keyframe in folder

    def convert(keyframe: Keyframe) -> int:
        return folder.write(source.read(keyframe))

    return _convert(keyframes, is_done, convert, Path(output), say)


def to_reference(
    source: DumpFolder,
    keyframes: Sequence[Keyframe],
    output: str | Path,
    vocabulary: Vocabulary,
    say: Callable[[str], None] = print,
) -> Converted:
    """Write the reference's files of native dumps; see `write_reference_dump` for FC-CLIP.

    Raises:
        MissingDumpError: a keyframe has no dump in the source; found before anything is written.
        DumpError: a file is corrupt, or the teacher has no words.

    """
    source.check(keyframes)
    text = source.text_embeddings
    if text is None:
        raise DumpError(
            f"{source.root}: the teacher {source.teacher!r} has no words, which the reference's "
            "format needs"
        )
    root = Path(output)
    root.mkdir(parents=True, exist_ok=True)
    write_reference_text(root, text, source.teacher)
    written = ReferenceDumpFolder(root, vocabulary)

    def is_done(keyframe: Keyframe) -> bool:
        return all(path.is_file() for path in written.paths(keyframe))

    def convert(keyframe: Keyframe) -> int:
        return write_reference_dump(root, source.read(keyframe), vocabulary)

    return _convert(keyframes, is_done, convert, root, say)


def _convert(
    keyframes: Sequence[Keyframe],
    is_done: Callable[[Keyframe], bool],
    convert: Callable[[Keyframe], int],
    output: Path,
    say: Callable[[str], None],
) -> Converted:
    waiting = [keyframe for keyframe in keyframes if not is_done(keyframe)]
    found = len(keyframes) - len(waiting)
    say(f"{len(waiting)} keyframes to convert, {found} done already.")
    total = 0
    for number, keyframe in enumerate(
        Bar(waiting, unit="keyframe", desc="convert", disable=not waiting), start=1
    ):
        total += convert(keyframe)
        if number == min(SAMPLE, len(waiting)):
            size, free = total / number * len(waiting), shutil.disk_usage(output).free
            warning = f" WARNING: only {readable_bytes(free)} are free there." * (size > free)
            say(
                f"Expected size: {readable_bytes(size)} in {output}, measured on {number}.{warning}"
            )
    return Converted(len(waiting), found, total)
