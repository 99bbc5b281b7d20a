"""Tensors and arrays out of other people's pickles, of which nothing is ever run.

`torch.save`'s files (zip archives and the older sequences of pickles) and plain pickles of numpy
arrays are read without PyTorch. A pickle is a program that may call any function by its name; here
the names of tensors, arrays and plain containers stand for functions of this module that make
arrays from bytes, `argparse.Namespace` and the like for dictionaries, and every other name for an
object that does nothing: it is left out of the content, and named. What a pickle is given cannot be
changed by it either: every name stands for an object of this module whose state it does not set.

Nor does a small file take much memory or time. Python's unpickler written in C makes room for what
a pickle says that it will hold before it looks whether it does; the one written in Python does not.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from uov_jax.contents import is_zip, unzip
from uov_jax.errors import InputError
from uov_jax.files import DAMAGE, read_bytes

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first number of torch.save's older files
LEGACY_TAR = ("storages", "tensors", "pickle")  # files in the archives of its first versions
DEEPEST = 200  # containers in containers
SHOWN = 100  # letters of a key in a message
MOST_BITS = 1024  # of a whole number; Python itself does not write longer ones
MOST_PARTS = 1000  # of a key, all tuples in it counted: a few bytes may say 2 to the 200
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
        if is_zip(content):
            found = _read_zip(content)
        elif is_legacy_tar(content):
            found = _read_tar(content)
        else:
            found = _read_sequence(content)
        left_out: list[str] = []
        plain = _plain(found, "", left_out, 0, {})
    except PickleError as error:
        raise PickleError(f"{path}: {error}") from error
    except (*DAMAGE, pickle.UnpicklingError, tarfile.TarError, AttributeError) as error:
        raise PickleError(
            f"{path}: damaged, or not of torch.save or pickle ({type(error).__name__}: {error})"
        ) from error
    return Pickled(plain, tuple(left_out))


def is_pickled(start: bytes) -> bool:
    """Whether a file may be a pickle by its first bytes; a zip archive may hold one."""
    return start[:1] == b"\x80" or start[:1] in (b"(", b"}", b"]")


def is_legacy_tar(start: bytes) -> bool:
    """Whether a file is an archive of torch.save's first versions by its first bytes."""
    name = start[:100].rstrip(b"\0").decode("latin1")
    return start[257:262] == b"ustar" and name in (*LEGACY_TAR, "sys_info")


# Elements of a tensor may share numbers, as after `expand`, but a few bytes must not become the
# terabytes that they say: elements, more than those of the largest table of words.
_MOST_SHARED = 2**26


class _Fixed:
    """Something whose state a pickle may want to set, without effect."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _Maker(_Fixed):
    """A function of this module under the name that pickles have for another one."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)


class _TorchType(_Fixed):
    """A type of numbers by one of torch's names."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype


@dataclasses.dataclass
class _Storage(_Fixed):
    """Numbers on the disk that tensors are cut from."""

    dtype: np.dtype[Any]
    size: int
    data: bytes | bytearray | memoryview | None = None
    portable: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def array(self, dtype: np.dtype[Any]) -> np.ndarray:
        """The numbers, of a type that numpy has; made once for all tensors cut from them."""
        if self.data is None:
            raise PickleError("a tensor whose numbers are not in the file")
        if dtype.name not in self.portable:
            # Not copied where that is not needed: files have gigabytes.
            numbers = np.frombuffer(self.data, dtype)
            self.portable[dtype.name] = np.asarray(numbers, _portable(dtype))
        return self.portable[dtype.name]


@dataclasses.dataclass
class _Tensor(_Fixed):
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
            return np.zeros(self.shape, numbers.dtype)
        return np.lib.stride_tricks.as_strided(
            numbers[self.offset :],
            self.shape,
            [stride * numbers.itemsize for stride in self.strides],
            writeable=False,
        )


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
        self.fields[_key(key)] = value


class _Dtype:
    """A numpy type: of numbers, truth values or texts; None for any other."""

    dtype: np.dtype[Any] | None = None

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = code if isinstance(code, str) else type(code).__name__
        if isinstance(code, str) and code and code[0] in "biufcSU?":
            self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        if self.dtype is None or not isinstance(state, tuple) or len(state) < 2:
            return
        if state[1] in ("<", ">", "="):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A numpy array that gets its numbers by `__setstate__`."""

    value: np.ndarray | _LeftOut | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 4:
            raise PickleError("an array without shape, type and numbers")
        shape, dtype, fortran, numbers = state[-4:]
        self.value = _array_of(shape, dtype, numbers, "F" if fortran else "C")


def _array_of(shape: Any, dtype: Any, numbers: Any, order: Any) -> np.ndarray | _LeftOut:
    if not isinstance(dtype, _Dtype):
        raise PickleError("an array whose type is none")
    if dtype.dtype is None:
        return _LeftOut(f"an array of the type {dtype.code!r}, which is no plain number or text")
    if isinstance(numbers, str):
        numbers = numbers.encode("latin1")  # as Python 2 wrote them
    if not isinstance(numbers, bytes | bytearray):
        raise PickleError("an array of objects, where numbers or texts were expected")
    values = np.frombuffer(bytes(numbers), dtype.dtype)
    return values.reshape(tuple(int(n) for n in shape), order=order)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: Any, numbers: Any = b"") -> Any:
    found = _array_of((), dtype, numbers, "C")
    return found if isinstance(found, _LeftOut) else found[()]


def _from_buffer(numbers: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    found = _Array()
    found.value = _array_of(shape, dtype, bytes(numbers), "F" if order == "F" else "C")
    return found


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
    if not isinstance(storage, _Storage) or not isinstance(dtype, _TorchType):
        return _LeftOut("a tensor of an unknown type")
    sizes = tuple(int(n) for n in shape), tuple(int(n) for n in strides)
    return _Tensor(storage, dtype.dtype, int(offset), *sizes)


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
    if isinstance(items, list | tuple):
        return _Mapping((_key(key), value) for key, value in items)
    return _Mapping(items) if isinstance(items, Mapping) else _Mapping()


def _key(value: Any) -> Any:
    """What may be a key or stand in a set; hashing a tuple goes through all tuples in it."""
    parts, waiting = 0, [value]
    while waiting:
        parts += 1
        if parts > MOST_PARTS:
            raise PickleError(f"a key of {MOST_PARTS} parts and more")
        part = waiting.pop()
        if isinstance(part, tuple):
            waiting += part[: MOST_PARTS + 1]
        # Of longer ones many have one hash.
        if isinstance(part, int) and part.bit_length() > 64:
            raise PickleError(f"a key of {part.bit_length():,} bits")
    return value


def _plain_word(value: Any) -> str:
    """A name, or a number for one, as text."""
    if not isinstance(value, str | int):
        raise PickleError(f"a {type(value).__name__} where a name was expected")
    return str(value)


def _set_of(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *arguments: kind(map(_key, arguments[0] if arguments else ()))


def _number(kind: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: kind(*arguments[:2])


# A type where a pickle makes objects of it (its NEWOBJ takes nothing else), else a `_Fixed`.
KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("argparse", "Namespace"): _Namespace,
    ("types", "SimpleNamespace"): _Namespace,
    ("easydict", "EasyDict"): _Namespace,
    ("numpy.core.multiarray", "_reconstruct"): _Maker(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _Maker(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Maker(_scalar),
    ("numpy._core.multiarray", "scalar"): _Maker(_scalar),
    **{
        name: _Maker(maker)  # type: ignore[arg-type]  # of functions and lambdas alike
        for name, maker in {
            ("numpy.core.numeric", "_frombuffer"): _from_buffer,
            ("numpy._core.numeric", "_frombuffer"): _from_buffer,
            ("_codecs", "encode"): _encode,
            ("copyreg", "_reconstructor"): _made,
            ("copy_reg", "_reconstructor"): _made,
            ("collections", "OrderedDict"): _mapping,
            ("collections", "defaultdict"): _mapping,
            ("collections", "Counter"): _mapping,
            ("builtins", "set"): _set_of(set),
            ("builtins", "frozenset"): _set_of(frozenset),
            ("builtins", "bytes"): _no_bytes,
            ("builtins", "complex"): _number(complex),
            ("builtins", "slice"): _number(slice),
            ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
            ("torch._utils", "_rebuild_parameter"): _first,
            ("torch._utils", "_rebuild_parameter_with_state"): _first,
            ("torch", "Size"): lambda *sizes: tuple(*sizes[:1]),
            ("torch", "device"): lambda *words: ":".join(map(_plain_word, words)),
        }.items()
    },
    **{("torch", name): _TorchType(dtype) for name, dtype in (STORAGES | DTYPES).items()},
    ("torch.storage", "UntypedStorage"): _TorchType(STORAGES["UntypedStorage"]),
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


def _looking_at(
    load: Callable[[Any], None], keys: Callable[[list[Any]], list[Any]]
) -> Callable[[Any], None]:
    """A step of the unpickler that first looks at what of its stack it will hash."""

    def step(unpickler: Any) -> None:
        for key in keys(unpickler.stack):
            _key(key)
        load(unpickler)

    return step


# Steps that hash, and what of their part of the stack they do.
_HASHED: dict[bytes, Callable[[list[Any]], list[Any]]] = {
    pickle.SETITEM: lambda stack: stack[-2:-1],
    pickle.SETITEMS: lambda stack: stack[::2],
    pickle.DICT: lambda stack: stack[::2],
    pickle.ADDITEMS: list,
    pickle.FROZENSET: list,
}


def _load_bytearray(unpickler: Any) -> None:
    (size,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytearray(unpickler.read(size)))


class _Unpickler(pickle._Unpickler):
    """An unpickler to which names mean what this module says they mean."""

    dispatch = {
        **pickle._Unpickler.dispatch,
        **{
            code[0]: _looking_at(pickle._Unpickler.dispatch[code[0]], keys)
            for code, keys in _HASHED.items()
        },
        pickle.BYTEARRAY8[0]: _load_bytearray,
    }

    def __init__(self, file: io.BytesIO, load: Callable[[tuple[Any, ...]], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._load = load
        self._stand_ins: dict[str, type[_LeftOut]] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = KNOWN.get((module, name))
        if known is not None:
            return known
        name = name if (module, name) in TYPES else f"{module}.{name}"
        if name not in self._stand_ins:
            self._stand_ins[name] = _stand_in(name)
        return self._stand_ins[name]

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
        if f"{root}byteorder" in names and unzip(archive, f"{root}byteorder") != b"little":
            raise PickleError("written on a big-endian machine")
        storages: dict[str, _Storage] = {}

        def load(key: tuple[Any, ...]) -> _Storage | _LeftOut:
            _, kind, name, _, size = key
            if not isinstance(kind, _TorchType):
                return _LeftOut("numbers of an unknown type")
            name = _plain_word(name)
            if name not in storages:
                data = unzip(archive, f"{root}data/{name}")
                storages[name] = _Storage(kind.dtype, int(size), data)
            return dataclasses.replace(storages[name], dtype=kind.dtype)

        return _Unpickler(io.BytesIO(unzip(archive, pickles[0])), load).load()


def _read_sequence(content: bytes) -> Any:
    """One pickle, or the five parts of torch.save's older files."""
    file = io.BytesIO(content)
    storages: dict[str, _Storage] = {}

    def load(key: tuple[Any, ...]) -> _Storage:
        _, kind, name, _, size, *view = key
        if any(view):
            raise PickleError("a view of a storage, as only PyTorch before 0.4 wrote it")
        if not isinstance(kind, _TorchType):
            # Its length on the disk is not known, and so not where the others are.
            raise PickleError("a tensor of an unknown type")
        return storages.setdefault(_plain_word(name), _Storage(kind.dtype, int(size)))

    first = _Unpickler(file, load).load()
    if first != LEGACY_MAGIC:
        return first
    version, _ = (_Unpickler(file, load).load() for _ in range(2))
    if version != 1001:
        raise PickleError("a file of torch.save of another version, expected 1001")
    found = _Unpickler(file, load).load()
    for name in _Unpickler(file, load).load():
        (size,) = struct.unpack("<q", file.read(8))
        storage = storages[_plain_word(name)]
        if size != storage.size:
            raise PickleError(f"a storage of {size} numbers, expected {storage.size}")
        storage.data = file.read(size * storage.dtype.itemsize)
        if len(storage.data) != size * storage.dtype.itemsize:
            raise PickleError("it breaks off within a tensor's numbers")
    return found


def _read_tar(content: bytes) -> Any:
    """The archive of torch.save's first versions: the storages, the tensors, and the pickle."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {}
        for name in LEGACY_TAR:
            # A file with holes may be of any size; a link leads elsewhere.
            entry = archive.getmember(name)
            file = archive.extractfile(entry) if entry.isreg() and not entry.issparse() else None
            if file is None:
                raise PickleError(f"an archive of torch.save without its file {name!r}")
            files[name] = io.BytesIO(file.read())

    def refuse(_: tuple[Any, ...]) -> Any:
        raise PickleError("a tensor where none was expected")

    def load(file: io.BytesIO) -> Any:
        return _Unpickler(file, refuse).load()

    objects: dict[int, Any] = {}
    file = files["storages"]
    for _ in range(load(file)):
        key, _, kind = load(file)
        if not isinstance(kind, _TorchType):
            raise PickleError("a tensor of an unknown type")
        (size,) = struct.unpack("<q", file.read(8))
        objects[_key(key)] = _Storage(kind.dtype, size, file.read(size * kind.dtype.itemsize))
    for key, root, offset, size in load(file):
        whole = objects[root]
        begin, width = offset * whole.dtype.itemsize, size * whole.dtype.itemsize
        part = memoryview(whole.data)[begin : begin + width]
        objects[key] = _Storage(whole.dtype, size, part)
    file = files["tensors"]
    for _ in range(load(file)):
        key, storage, _ = load(file)
        (axes,) = struct.unpack("<i4x", file.read(8))
        numbers = struct.unpack(f"<{2 * axes + 1}q", file.read(16 * axes + 8))
        shape, strides, offset = numbers[:axes], numbers[axes:-1], numbers[-1]
        objects[key] = _Tensor(objects[storage], objects[storage].dtype, offset, shape, strides)
    return _Unpickler(
        files["pickle"], lambda key: objects[int(key[0] if isinstance(key, tuple) else key)]
    ).load()


def _plain(
    value: Any, place: str, left_out: list[str], depth: int, done: dict[int, tuple[Any, Any]]
) -> Any:
    """Content with arrays for tensors and dictionaries for namespaces; `_LeftOut` goes.

    A container that stands at several places is gone through once, and names what it lacks at the
    first: a few bytes may say 2 to the 200 places. `done` has results by the identity of what they
    were made of, and that, to keep it.
    """
    if depth > DEEPEST:
        raise PickleError(f"containers in containers, {DEEPEST} deep and more")
    if isinstance(value, _LeftOut | type):
        return _plain_of(value, place, left_out, depth, done)
    if id(value) not in done:
        done[id(value)] = value, _plain_of(value, place, left_out, depth, done)
    return done[id(value)][1]


def _plain_of(
    value: Any, place: str, left_out: list[str], depth: int, done: dict[int, tuple[Any, Any]]
) -> Any:
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
        items = {
            key: _plain(v, f"{place}.{str(key)[:SHOWN]}", left_out, depth + 1, done)
            for key, v in value.items()
        }
        return {key: item for key, item in items.items() if item is not _GONE}
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_plain(v, f"{place}[{i}]", left_out, depth + 1, done) for i, v in enumerate(value)]
        if isinstance(value, list):
            return [part for part in parts if part is not _GONE]
        parts = [None if part is _GONE else part for part in parts]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, _LeftOut) or (isinstance(value, type) and issubclass(value, _LeftOut)):
        name = value.name if isinstance(value, _LeftOut) else value.__name__
        left_out.append(f"{place.lstrip('.') or 'the content'}: {name}")
        return _GONE
    if isinstance(value, _Dtype | _TorchType):
        return str(value.dtype)
    if isinstance(value, _Maker):
        left_out.append(f"{place.lstrip('.') or 'the content'}: the name of a function")
        return _GONE
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise PickleError(f"a whole number of {value.bit_length():,} bits")
    if value is None or isinstance(value, str | bytes | bool | int | float | complex | np.generic):
        return value
    left_out.append(f"{place.lstrip('.') or 'the content'}: {type(value).__name__}")
    return _GONE


_GONE = object()
