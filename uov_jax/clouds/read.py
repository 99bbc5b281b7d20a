"""Clouds from files of every format, and from folders and bags of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from uov_jax.clouds.bag_file import METADATA, Bag, open_bag
from uov_jax.clouds.cloud import AS_STORED, Cloud, CloudError, Loader, Reading, Stored, cloud_of
from uov_jax.clouds.columns import read_columns
from uov_jax.clouds.fields import stored_of_fields
from uov_jax.clouds.labels import is_prediction
from uov_jax.clouds.las_file import read_las
from uov_jax.clouds.numpy_file import read_npy, read_npz
from uov_jax.clouds.openscene_file import read_pth
from uov_jax.clouds.pcd_file import read_pcd
from uov_jax.datasets.ply_file import read_ply, read_ply_header
from uov_jax.errors import MissingFileError, UserError


def _read_ply(path: Path, reading: Reading) -> Stored:
    form = f"PLY, {read_ply_header(path).format}"
    vertices = read_ply(path)
    fields = {name: vertices[name] for name in vertices.dtype.names or ()}
    return stored_of_fields(fields, reading.columns, str(path), form)


READERS: dict[str, Callable[[Path, Reading], Stored]] = {
    ".bin": read_columns,
    ".pcd": read_pcd,
    ".ply": _read_ply,
    ".las": read_las,
    ".laz": read_las,
    ".npy": read_npy,
    ".npz": read_npz,
    ".pth": read_pth,
}
BAGS = (".mcap", ".db3")
ENDINGS = (*READERS, *BAGS)
READABLE = f"{', '.join(ENDINGS[:-1])} and {ENDINGS[-1]} are read, and folders of ROS 2 bags"


@dataclasses.dataclass(frozen=True)
class Clouds:
    """Clouds in their order; each pass reads them anew.

    Iterating gives their names, which no two have in common, and for each what reads it: so those
    that are wanted no more cost nothing. What fails says so when it is read, the others go on.

    Attributes:
        path: the file or folder.
        parts: files and bags.
        others: files in the folder that are neither clouds nor predictions.

    """

    path: Path
    parts: tuple[tuple[str, Loader] | Bag, ...]
    others: int = 0

    def __len__(self) -> int:
        """How many there are, of bags as they say."""
        return sum(part.sweeps if isinstance(part, Bag) else 1 for part in self.parts)

    def __iter__(self) -> Iterator[tuple[str, Loader]]:
        """Name and loader of every cloud."""
        for part in self.parts:
            if isinstance(part, Bag):
                yield from _sweeps(part)
            else:
                yield part


def _sweeps(bag: Bag) -> Iterator[tuple[str, Loader]]:
    """Those of a bag; where it breaks off, a last one says so and stands for all that are lost."""
    number = 0
    try:
        for each in bag:
            yield each
            number += 1
    except UserError as error:
        lost = max(bag.sweeps - number, 1)
        yield bag.name(number), Loader.failing(error, bag.path, clouds=lost)


def read_cloud(path: str | Path, reading: Reading = AS_STORED) -> Cloud:
    """The cloud of a file, in metres with z upward.

    Args:
        path: a file of one of `ENDINGS`; of a bag or folder, the single cloud in it.
        reading: units, axes and columns.

    Raises:
        MissingFileError: there is no such file.
        MissingPackageError: its format needs a package that is not installed; says how to install.
        InputError: it cannot be used; names the file, the place and what was expected.

    """
    clouds = clouds_in(path, reading)
    if len(clouds) != 1:
        raise CloudError(f"{path}: {len(clouds):,} clouds, expected a single one")
    _, load = next(iter(clouds))
    return load()


def clouds_in(path: str | Path, reading: Reading = AS_STORED) -> Clouds:
    """The clouds of a file, of a folder in the order of their names, or of a ROS 2 bag.

    Folders in a folder are not looked into; predictions that lie beside their clouds are left out.

    Args:
        path: a file of one of `ENDINGS`, a folder of such files, or the folder of a bag.
        reading: units, axes and columns, the same for all.

    Raises:
        MissingFileError: there is nothing of that name.
        MissingPackageError: bags need a package that is not installed; says how to install it.
        CloudError: it is no cloud, holds none, or two of one name.

    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path}: no such file or folder of point clouds")
    if (path / METADATA).is_file():
        return Clouds(path, (open_bag(path, reading),))
    if not path.is_dir():
        if path.suffix.lower() not in ENDINGS:
            what = f"files called {path.suffix}" if path.suffix else "files without an ending"
            raise CloudError(f"{path}: {what} are not read as point clouds; {READABLE}")
        part = _part(path, reading)
        _check_topic(path, [part], reading)
        return Clouds(path, (part,))
    files = sorted(file for file in path.glob("[!.]*") if file.is_file())
    paths = [file for file in files if _is_cloud(file)]
    if not paths:
        raise CloudError(f"{path}: no point clouds in this folder{_below(path)}; {READABLE}")
    named: dict[str, Path] = {}
    for file in paths:
        other = named.setdefault(cloud_name(file), file)
        if other != file:
            raise CloudError(
                f"{file}: its labels would be called like those of {other.name}: rename one, or "
                "move it into another folder"
            )
    parts = tuple(_part_or_error(file, reading) for file in paths)
    for bag in parts:
        if isinstance(bag, Bag):
            _check_names(bag, named)
    _check_topic(path, parts, reading)
    return Clouds(path, parts, sum(not is_prediction(file) for file in files) - len(paths))


def cloud_name(path: Path) -> str:
    """The name of a file's cloud: "a" of `a.ply` and of `a.pcd.bin`, as nuScenes calls sweeps."""
    return path.stem.removesuffix(".pcd") if path.suffix.lower() == ".bin" else path.stem


def _check_names(bag: Bag, named: Mapping[str, Path]) -> None:
    """Refuse files that are called like a bag's sweeps."""
    for name, file in named.items():
        stem, _, number = name.rpartition("-")
        if stem == bag.path.stem and number.isdecimal() and name == bag.name(int(number)):
            raise CloudError(
                f"{file}: its labels would be called like those of a sweep of {bag.path.name}: "
                "rename one, or move it into another folder"
            )


def _check_topic(path: Path, parts: Sequence[tuple[str, Loader] | Bag], reading: Reading) -> None:
    if reading.topic is not None and not any(isinstance(part, Bag) for part in parts):
        raise CloudError(f"{path}: topics are of bags, and here is none: leave --topic out")


def _is_cloud(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not is_prediction(path)


def _part(path: Path, reading: Reading) -> tuple[str, Loader] | Bag:
    if path.suffix.lower() in BAGS:
        return open_bag(path, reading)
    name = cloud_name(path)
    read = functools.partial(_read, path, name, reading)
    return name, Loader(read, path, _stamp(path))


def _part_or_error(path: Path, reading: Reading) -> tuple[str, Loader] | Bag:
    """The same; of a bag that cannot be opened what says so in its turn."""
    try:
        return _part(path, reading)
    except UserError as error:
        return cloud_name(path), Loader.failing(error, path, _stamp(path))


def _stamp(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:  # It has gone meanwhile, which is said when it is read.
        return ""
    return f"{facts.st_size}, {facts.st_mtime_ns}"


def _read(path: Path, name: str, reading: Reading) -> Cloud:
    try:
        if not path.stat().st_size:
            raise CloudError(f"{path}: an empty file, expected a point cloud")
        stored = READERS[path.suffix.lower()](path, reading)
    except OSError as error:
        raise CloudError(f"{path}: {error.strerror or error}") from error
    return cloud_of(stored, name, str(path), reading)


def _below(path: Path) -> str:
    """The end of a message: a folder below that has clouds."""
    for folder in sorted(each for each in path.glob("[!.]*") if each.is_dir()):
        if (folder / METADATA).is_file() or any(map(_is_cloud, folder.iterdir())):
            return f", but in {folder}"
    return ""
