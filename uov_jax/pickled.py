"""Tensors and arrays out of other people's pickles, of which nothing is ever run.

`torch.save`'s files (zip archives and the older sequences of pickles) and plain pickles of numpy
arrays are read without PyTorch. A pickle is a program that may call any function by its name; here
the names of tensors, arrays and plain containers stand for functions of this module that make
arrays from bytes, `argparse.Namespace` and the like for dictionaries, and every other name for an
object that does nothing: it is left out of the content, and named.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from uov_jax.errors import InputError
from uov_jax.files import DAMAGE, read_bytes

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first number of torch.save's older files
DEEPEST = 200  # containers in containers
# Storages of torch by the names of their types: numpy's types, little-endian as on the disk.
STORAGES: dict[str, Any] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "UntypedStorage": np.dtype("u1"),
}
DTYPES: dict[str, Any] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}


class PickleError(InputError):
    """A file is no pickle that can be read here, or is damaged; names it."""


@dataclasses.dataclass(frozen=True)
class Pickled:
    """What was in a file.

    Attributes:
        content: dictionaries, lists, tuples, numbers, texts and numpy arrays; a tensor is an array
            (float32 for bfloat16), a namespace a dictionary. Dictionaries and lists lack what is
            left out, tuples have None there.
        left_out: of what was left out, where it stood and what it is.

    """

    content: Any
    left_out: tuple[str, ...]


def read_pickled(path: Path) -> Pickled:
    """Read a file of `torch.save` or `pickle.dump`.

    Raises:
        FileNotFoundError: there is no such file.
        PickleError: it is neither, or damaged.

    """
    content = read_bytes(path)
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            found = _read_zip(content)
        else:
            found = _read_sequence(content)
        left_out: list[str] = []
        plain = _plain(found, "", left_out, 0)
    except PickleError as error:
        raise PickleError(f"{path}: {error}") from error
    except (*DAMAGE, pickle.UnpicklingError, AttributeError, RecursionError) as error:
        raise PickleError(
            f"{path}: damaged, or not of torch.save or pickle ({type(error).__name__}: {error})"
        ) from error
    return Pickled(plain, tuple(left_out))


def is_pickled(start: bytes) -> bool:
    """Whether a file may be a pickle by its first bytes; a zip archive may hold one."""
    return start[:1] == b"\x80" or start[:1] in (b"(", b"}", b"]")


# Elements of a tensor may share numbers, as after `expand`, but a few bytes must not become the
# terabytes that they say: elements, several times those of the largest table of words.
_MOST_SHARED = 2**28


@dataclasses.dataclass
class _Storage:
    """Numbers on the disk that tensors are cut from."""

    dtype: np.dtype[Any]
    size: int
    data: bytes | None = None

    def array(self, dtype: np.dtype[Any]) -> np.ndarray:
        if self.data is None:
            raise PickleError("a tensor whose numbers are not in the file")
        return np.frombuffer(self.data, dtype)


@dataclasses.dataclass
class _Tensor:
    """A tensor whose numbers may still have to be read."""

    storage: _Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        numbers = self.storage.array(self.dtype)
        count = math.prod(self.shape)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if min((*self.shape, *self.strides, self.offset), default=0) < 0:
            raise PickleError(f"a tensor of shape {self.shape} and strides {self.strides}")
        if count > max(len(numbers), _MOST_SHARED) or (count and last >= len(numbers)):
            raise PickleError(
                f"a tensor of shape {self.shape}, but {len(numbers)} numbers in its storage"
            )
        if not count:
            return np.zeros(self.shape, _portable(self.dtype))
        width = self.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :],
            self.shape,
            [stride * width for stride in self.strides],
            writeable=False,
        )
        # Not copied where that is not needed: files have gigabytes.
        return np.asarray(view, _portable(self.dtype))


def _portable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32) if dtype == ml_dtypes.bfloat16 else dtype.newbyteorder("=")


class _LeftOut:
    """Stands for an object of a class that is not made, whatever the pickle wants of it."""

    name = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    def add(self, item: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass


class _Namespace:
    """A bag of attributes (`argparse.Namespace` and its like), to become a dictionary."""

    fields: dict[Any, Any]

    def __new__(cls, *_: object) -> _Namespace:  # noqa: D102
        made = object.__new__(cls)
        made.fields = {}
        return made

    def __setstate__(self, state: object) -> None:
        if isinstance(state, Mapping):
            self.fields.update(state)

    def __setitem__(self, key: object, value: object) -> None:
        self.fields[key] = value


class _Dtype:
    """A numpy type: of numbers, truth values or texts; of nothing else."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not code or code[0] not in "biufcSU?":
            raise PickleError(f"an array of the type {code!r}, which is no plain number or text")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "=", "|"):
            if state[1] != "|":
                self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A numpy array that gets its numbers by `__setstate__`."""

    value: np.ndarray | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 4:
            raise PickleError("an array without shape, type and numbers")
        shape, dtype, fortran, numbers = state[-4:]
        self.value = _array_of(shape, dtype, numbers, "F" if fortran else "C")


def _array_of(shape: Any, dtype: Any, numbers: Any, order: Any) -> np.ndarray:
    if isinstance(numbers, str):
        numbers = numbers.encode("latin1")  # as Python 2 wrote them
    if not isinstance(dtype, _Dtype) or not isinstance(numbers, bytes | bytearray):
        raise PickleError("an array of objects, where numbers or texts were expected")
    values = np.frombuffer(bytes(numbers), dtype.dtype)
    return values.reshape(tuple(int(n) for n in shape), order=order)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: Any, numbers: Any = b"") -> Any:
    return _array_of((), dtype, numbers, "C")[()]


def _from_buffer(numbers: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _array_of(shape, dtype, bytes(numbers), "F" if order == "F" else "C")


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Python 3's way of writing bytes in protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleError("bytes that are not written as Python writes them")
    return text.encode("latin1")


def _no_bytes(*arguments: object) -> bytes:
    """Python 3's way of writing b"" in protocol 2, as the numbers of an empty array."""
    if arguments:
        raise PickleError("bytes that are not written as Python writes them")
    return b""


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: object
) -> _Tensor | _LeftOut:
    if not isinstance(storage, _Storage):
        return _LeftOut("a tensor of an unknown storage")
    sizes = tuple(int(n) for n in shape), tuple(int(n) for n in strides)
    return _Tensor(storage, storage.dtype, int(offset), *sizes)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> _Tensor | _LeftOut:
    if not isinstance(storage, _Storage) or not isinstance(dtype, np.dtype):
        return _LeftOut("a tensor of an unknown type")
    sizes = tuple(int(n) for n in shape), tuple(int(n) for n in strides)
    return _Tensor(storage, dtype, int(offset), *sizes)


def _first(value: object, *_: object) -> object:
    """What a parameter is made of."""
    return value


def _made(kind: Any, *_: object) -> object:
    """An object as protocols 0 and 1 make them, of the classes that are known here or of none."""
    known = isinstance(kind, type) and issubclass(kind, _LeftOut | _Namespace)
    return kind() if known else _LeftOut("an object of an unknown class")


class _Mapping(dict[Any, Any]):
    """A dictionary that may be given attributes, as torch gives its state_dicts; they are lost."""

    def __setstate__(self, state: object) -> None:
        pass


def _mapping(*arguments: Any) -> _Mapping:
    """`OrderedDict(items)`, `defaultdict(factory, items)`, `Counter(items)` as a dictionary."""
    items = arguments[-1] if arguments else ()
    return _Mapping(items) if isinstance(items, Mapping | list | tuple) else _Mapping()


def _collection(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *arguments: kind(arguments[0] if arguments else ())


def _number(kind: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: kind(*arguments[:2])


KNOWN: dict[tuple[str, str], Any] = {
    **{
        (f"numpy{module}", name): maker
        for name, maker in (("_reconstruct", _reconstruct), ("scalar", _scalar))
        for module in (".core.multiarray", "._core.multiarray")
    },
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _made,
    ("copy_reg", "_reconstructor"): _made,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    ("collections", "Counter"): _mapping,
    ("argparse", "Namespace"): _Namespace,
    ("types", "SimpleNamespace"): _Namespace,
    ("easydict", "EasyDict"): _Namespace,
    ("builtins", "set"): _collection(set),
    ("builtins", "frozenset"): _collection(frozenset),
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "complex"): _number(complex),
    ("builtins", "slice"): _number(slice),
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch", "Size"): _collection(tuple),
    ("torch", "device"): lambda *words: ":".join(map(str, words)),
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
    ("torch.storage", "UntypedStorage"): STORAGES["UntypedStorage"],
    **{("torch", name): dtype for name, dtype in DTYPES.items()},
}
KNOWN |= {
    ("__builtin__", name): KNOWN["builtins", name]
    for name in ("set", "frozenset", "complex", "bytes")
}
# Types that may stand as values, such as the factory of a defaultdict: their name is all there is.
TYPES = {
    (module, name)
    for module in ("builtins", "__builtin__")
    for name in ("list", "dict", "int", "float", "str", "bool", "tuple")
}


class _Unpickler(pickle.Unpickler):
    """An unpickler to which names mean what this module says they mean."""

    def __init__(self, file: io.BytesIO, load: Callable[[tuple[Any, ...]], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._load = load

    def find_class(self, module: str, name: str) -> Any:
        known = KNOWN.get((module, name))
        if known is not None:
            return known
        if (module, name) in TYPES:
            return _stand_in(name)
        return _stand_in(f"{module}.{name}")

    def persistent_load(self, key: Any) -> Any:
        return self._load(key)


def _stand_in(name: str) -> type[_LeftOut]:
    """A class that makes nothing but `_LeftOut`, however it is called."""

    class StandIn(_LeftOut):
        def __new__(cls, *_: object, **__: object) -> StandIn:
            return object.__new__(cls)

        def __init__(self, *_: object, **__: object) -> None:
            pass

    StandIn.__name__ = StandIn.name = name  # of the class: not every object is initialised
    return StandIn


def _read_zip(content: bytes) -> Any:
    """The archive of today's torch.save: `data.pkl`, and the numbers of each storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise PickleError("a zip archive that torch.save did not write (it has no data.pkl)")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise PickleError("written on a big-endian machine")
        storages: dict[str, _Storage] = {}

        def load(key: tuple[Any, ...]) -> _Storage:
            _, dtype, name, _, size = key
            if name not in storages:
                data = archive.read(f"{root}data/{name}")
                storages[name] = _Storage(dtype, int(size), data)
            return dataclasses.replace(storages[name], dtype=dtype)

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), load).load()


def _read_sequence(content: bytes) -> Any:
    """One pickle, or the five parts of torch.save's older files."""
    file = io.BytesIO(content)
    storages: dict[str, _Storage] = {}

    def load(key: tuple[Any, ...]) -> _Storage:
        _, dtype, name, _, size, *view = key
        if any(view):
            raise PickleError("a view of a storage, as only PyTorch before 0.4 wrote it")
        return storages.setdefault(str(name), _Storage(dtype, int(size)))

    first = _Unpickler(file, load).load()
    if first != LEGACY_MAGIC:
        return first
    version, _ = (_Unpickler(file, load).load() for _ in range(2))
    if version != 1001:
        raise PickleError(f"a file of torch.save of the version {version}, expected 1001")
    found = _Unpickler(file, load).load()
    for name in _Unpickler(file, load).load():
        (size,) = struct.unpack("<q", file.read(8))
        storage = storages[str(name)]
        if size != storage.size:
            raise PickleError(f"a storage of {size} numbers, expected {storage.size}")
        storage.data = file.read(size * storage.dtype.itemsize)
        if len(storage.data) != size * storage.dtype.itemsize:
            raise PickleError("it breaks off within a tensor's numbers")
    return found


def _plain(value: Any, place: str, left_out: list[str], depth: int) -> Any:
    """Content with arrays for tensors and dictionaries for namespaces; `_LeftOut` goes."""
    if depth > DEEPEST:
        raise PickleError(f"containers in containers, {DEEPEST} deep and more")
    if isinstance(value, _Tensor):
        return value.array()
    if isinstance(value, _Array):
        if value.value is None:
            raise PickleError("an array without numbers")
        value = value.value
    if isinstance(value, np.ndarray):
        return value.astype(value.dtype.newbyteorder("="), copy=False)
    if isinstance(value, _Namespace):
        value = value.fields
    if isinstance(value, Mapping):
        items = {key: _plain(v, f"{place}.{key}", left_out, depth + 1) for key, v in value.items()}
        return {key: item for key, item in items.items() if item is not _GONE}
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_plain(v, f"{place}[{i}]", left_out, depth + 1) for i, v in enumerate(value)]
        if isinstance(value, list):
            return [part for part in parts if part is not _GONE]
        parts = [None if part is _GONE else part for part in parts]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, _LeftOut) or (isinstance(value, type) and issubclass(value, _LeftOut)):
        name = value.name if isinstance(value, _LeftOut) else value.__name__
        left_out.append(f"{place.lstrip('.') or 'the content'}: {name}")
        return _GONE
    if isinstance(value, _Dtype):
        return str(value.dtype)
    if isinstance(value, np.dtype):
        return str(value)
    if value is None or isinstance(value, str | bytes | bool | int | float | complex | np.generic):
        return value
    left_out.append(f"{place.lstrip('.') or 'the content'}: {type(value).__name__}")
    return _GONE


_GONE = object()
