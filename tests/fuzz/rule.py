"""What must hold of a reader, whatever the files are that it is given, and how it is given them.

Nothing but a `UserError` leaves it, and it takes no more than `MOST_MEMORY`. (That it comes to an
end, and does not crash, is for the fuzzer to see.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from uov_jax.errors import UserError

MOST_MEMORY = 2**29  # bytes, for files of 64 kB
# Between the parts of an input: names and files of an archive, or the files of a folder.
MARK = b"\0--\0"


class MemoryRuleError(Exception):
    """A reader took too much memory."""


@contextlib.contextmanager
def frugal(most: int, what: str = "this") -> Iterator[None]:
    """MemoryRuleError where a block takes more bytes than these, touched or not, and given back."""
    tracemalloc.start()
    try:
        yield
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if peak > most:
            raise MemoryRuleError(f"{what}: {peak:,} bytes, expected at most {most:,}")


@dataclasses.dataclass(frozen=True)
class Reader:
    """Something that reads files.

    Attributes:
        name: of it.
        files: that it reads, below a folder.
        write: makes valid ones in a folder.
        read: reads them.
        zipped: the only file is a zip archive. Changes of its bytes end at its checksums, so that
            it is also given archives put together of changed parts.

    """

    name: str
    files: tuple[str, ...]
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    zipped: bool = False

    @property
    def forms(self) -> tuple[str, ...]:
        """How inputs become files."""
        if len(self.files) > 1:
            return ("folder",)
        return ("file", "archive") if self.zipped else ("file",)

    def seed(self, form: str) -> bytes:
        """The input that becomes valid files."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            self.write(folder)
            if form == "folder":
                return MARK.join((folder / name).read_bytes() for name in self.files)
            if form == "file":
                return (folder / self.files[0]).read_bytes()
            with zipfile.ZipFile(folder / self.files[0]) as archive:
                parts = [(name.encode(), archive.read(name)) for name in archive.namelist()]
            return MARK.join(part for pair in parts for part in pair)

    def place(self, form: str, content: bytes, folder: Path) -> None:
        """Make files of an input; those that it has no part for are not there."""
        parts = content.split(MARK)
        if form == "file":
            parts = [content]
        elif form == "archive":
            parts = [_archive(parts)]
        for name in self.files:
            path = folder / name
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        for name, part in zip(self.files, parts, strict=False):
            (folder / name).write_bytes(part)

    def judge(self, form: str, content: bytes, folder: Path) -> bool:
        """Read an input; whether it was accepted.

        Raises:
            MemoryRuleError: it took too much memory.
            Exception: whatever else breaks the rule.

        """
        self.place(form, content, folder)
        with warnings.catch_warnings(), frugal(MOST_MEMORY, self.name):
            warnings.simplefilter("ignore")
            try:
                self.read(folder)
            except UserError:
                return False
        return True


@dataclasses.dataclass(frozen=True)
class Target:
    """Readers that are fuzzed together: the first byte of an input chooses between them."""

    readers: tuple[Reader, ...]

    @property
    def choices(self) -> list[tuple[Reader, str]]:
        """What the first byte chooses from."""
        return [(reader, form) for reader in self.readers for form in reader.forms]

    def seeds(self) -> list[bytes]:
        """An input for each."""
        return [
            bytes([number]) + reader.seed(form)
            for number, (reader, form) in enumerate(self.choices)
        ]

    def judge(self, content: bytes, folder: Path) -> bool:
        """Read an input; whether it was accepted. Errors as `Reader.judge`."""
        if not content:
            return False
        reader, form = self.choices[content[0] % len(self.choices)]
        return reader.judge(form, content[1:], folder / reader.name)


def _archive(parts: list[bytes]) -> bytes:
    """A zip archive of names and files, one after the other."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A name may stand there twice.
        for name, part in zip(parts[::2], parts[1::2], strict=False):
            archive.writestr(zipfile.ZipInfo(name[:100].decode("latin1") or "-"), part)
    return whole.getvalue()
