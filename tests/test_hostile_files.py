"""Files that once took readers' memory or time, or left them with another error than the user's.

What was found by fuzzing, or by reading with it in mind; `tests/fuzz` looks for more.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fuzz import targets
from tests.fuzz.rule import frugal
from tests.fuzz.targets import POINTS, ROOM, TARGETS, scannet, words
from uov_jax.checkpoints.files import load_state_dict_file
from uov_jax.datasets import image_file
from uov_jax.datasets.nuscenes_index import read_tables
from uov_jax.datasets.ply_file import read_ply
from uov_jax.datasets.rooms import RoomStore
from uov_jax.datasets.scannet import read_label_table
from uov_jax.dumps.file import read_dump
from uov_jax.dumps.folder import DumpFolder
from uov_jax.errors import UserError
from uov_jax.files import write_npz
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.frame_features import FileTeacher, read_features
from uov_jax.pickled import PickleError, read_pickled

MOST = 2**25  # bytes, for files of some kB


def refused(read: Callable[[], object], match: str) -> None:
    with frugal(MOST), pytest.raises(UserError, match=match):
        read()


# Dumps.


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"height": 2**20, "width": 2**20, "runs": 2**40}, "runs and 4 masks in an image of"),
        ({"height": 2**13, "width": 2**13, "runs": 2**26}, "which are more than 134,217,728 bytes"),
        ({"height": 0, "width": 0, "runs": 0}, "corrupt or truncated teacher dump"),
    ],
)
def test_a_dumps_header_takes_no_memory(tmp_path: Path, change: dict[str, int], match: str) -> None:
    path = tmp_path / "key.npz"
    TARGETS["dumps"].readers[0].write(tmp_path)
    arrays = dict(np.load(path))
    header = json.loads(arrays["header"].tobytes())
    header["cameras"][0] |= change
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    write_npz(path, arrays, stored=arrays)
    refused(lambda: read_dump(path), match)


def test_embeddings_of_a_size_beyond_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "key.npz"
    TARGETS["dumps"].readers[0].write(tmp_path)
    arrays = dict(np.load(path))
    header = json.loads(arrays["header"].tobytes()) | {"embedding_size": 2**61}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    write_npz(path, arrays, stored=arrays)
    refused(lambda: read_dump(path), "masks of 2305843009213693952 dimensions")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"format_version": 3, "embedding_size": "3"}', '{"format_version": []}'],
)
def test_manifests_of_other_forms(tmp_path: Path, text: str) -> None:
    (tmp_path / "dump.json").write_text(text)
    refused(lambda: DumpFolder(tmp_path), "not a manifest of teacher dumps")


@pytest.mark.parametrize("size", ['"3"', "1e400", "3.5"])
def test_a_manifest_whose_sizes_are_none(tmp_path: Path, size: str) -> None:
    targets.write_dumps(tmp_path)
    path = tmp_path / "dump.json"
    path.write_text(path.read_text().replace('"embedding_size": 3', f'"embedding_size": {size}'))
    refused(lambda: DumpFolder(tmp_path), "not a manifest of teacher dumps")


# Tables.


@pytest.mark.parametrize(
    ("table", "old", "new"),
    [
        ("scene", b"scene-1", b"scene-\xff"),
        ("sample", b'"next"', b'"more": ' + b"[" * 100_000 + b', "next"'),
        ("sample_data", b'"width": 160', b'"width": 99999999999'),
        ("sample_data", b'"width": 160', b'"width": -1'),
    ],
)
def test_tables_with_strange_records(tmp_path: Path, table: str, old: bytes, new: bytes) -> None:
    targets.write_tables(tmp_path)
    path = tmp_path / "v" / f"{table}.json"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    refused(lambda: read_tables(tmp_path / "v"), rf"{table}\.json: ")


# Pickles.

PROTOCOL = b"\x80\x04"
TWINS = b"(" + b"K\x01" + b"t" + b"2\x86" * 60  # a tuple of 2 to the 60 parts


@pytest.mark.parametrize(
    "code",
    [
        b"K\x01r\xff\xff\xff\x7f.",  # memory for 2^31 remembered objects
        b"\x8e" + struct.pack("<Q", 2**40) + b"a.",  # bytes that are not there
        b"\x8e" + struct.pack("<Q", 2**33) + b"a.",
        b"\x96" + struct.pack("<Q", 2**33) + b"a.",  # a bytearray
        b"\x8d" + struct.pack("<Q", 2**33) + b"a.",  # a text
        b"\x95" + struct.pack("<Q", 2**33) + b"K\x01.",  # a frame
    ],
    ids=["memo", "bytes", "fewer bytes", "bytearray", "text", "frame"],
)
def test_what_a_pickle_says_takes_no_memory(tmp_path: Path, code: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(PROTOCOL + code)
    with frugal(MOST):
        try:
            read_pickled(path)
        except PickleError:
            return
    assert code.startswith((b"K\x01r", b"\x95"))  # These say nothing wrong of what follows.


@pytest.mark.parametrize(
    "code",
    [
        b"}" + TWINS + b"K\x01s.",
        b"}(" + TWINS + b"K\x01u.",
        b"(" + TWINS + b"K\x01d.",
        b"\x8f(" + TWINS + b"\x90.",
        b"(" + TWINS + b"\x91.",
        b"cbuiltins\nset\n](" + TWINS + b"e\x85R.",
        b"ccollections\nOrderedDict\n](" + TWINS + b"K\x01\x86e\x85R.",
        b"cargparse\nNamespace\n)\x81" + TWINS + b"K\x01s.",
    ],
    ids=["item", "items", "dict", "set", "frozenset", "set()", "mapping", "namespace"],
)
def test_keys_that_take_for_ever_to_hash(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(PROTOCOL + code)
    refused(lambda: read_pickled(tmp_path / "a.pkl"), "a key of 1000 parts and more")


SCALAR = b"cnumpy.core.multiarray\nscalar\n"


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (SCALAR + b"cnumpy\ndtype\n" + TWINS + b"\x85RC\0\x86R.", ""),
        (b"ctorch\ndevice\n" + TWINS + b"\x85R.", "a tuple where a name was expected"),
        (b"(X\x07\0\0\0storagectorch\nFloatStorage\n" + TWINS + b"NK\x06NtQ.", "a tuple where"),
        (b"\x8b\xa0\x0f\0\0" + bytes(3999) + b"\x01.", "a whole number of 31,993 bits"),
        (b"}\x8a\x09" + bytes(8) + b"\x01K\x01s.", "a key of 65 bits"),
    ],
    ids=["dtype", "device", "storage", "number", "numeric key"],
)
def test_words_that_take_for_ever_to_write(tmp_path: Path, code: bytes, match: str) -> None:
    (tmp_path / "a.pkl").write_bytes(PROTOCOL + code)
    if match:
        refused(lambda: read_pickled(tmp_path / "a.pkl"), match)
        return
    with frugal(MOST):
        (line,) = read_pickled(tmp_path / "a.pkl").left_out
    assert line.startswith("the content: an array of the type 'tuple'")


def test_shared_numbers_are_made_once(tmp_path: Path) -> None:
    """Of bfloat16 numbers, which numpy does not have, all tensors share one copy."""
    import torch

    base = torch.ones(1, dtype=torch.bfloat16)
    path = tmp_path / "a.pt"
    torch.save([base.expand(1000, 1000, 60) for _ in range(20)], path)
    with frugal(MOST):
        found = read_pickled(path).content
    assert len(found) == 20
    assert all(each.shape == (1000, 1000, 60) and each[9, 9, 9] == 1 for each in found)


def broken_tar(member: tarfile.TarInfo) -> bytes:
    """An archive of torch.save's first versions whose first file is this one."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(member)
        for name in ("tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name))
    return whole.getvalue()


def test_archives_of_torchs_first_versions(tmp_path: Path) -> None:
    path = tmp_path / "a.pth.tar"
    damaged = bytearray(broken_tar(tarfile.TarInfo("storages")))
    damaged[0x9A] ^= 1  # of its checksum
    link = tarfile.TarInfo("storages")
    link.type, link.linkname = tarfile.SYMTYPE, "storages"
    # A file with holes: a header of the old GNU form, of 2^33 bytes of nothing.
    sparse = bytearray(broken_tar(tarfile.TarInfo("storages")))
    sparse[156:157] = tarfile.GNUTYPE_SPARSE
    sparse[386:410] = b"%011o\0%011o\0" % (2**33 - 1, 0)
    sparse[483:495] = b"%011o\0" % (2**33 - 1)
    sparse[148:156] = b"%06o\0 " % (sum(sparse[:148]) + 8 * 32 + sum(sparse[156:512]))
    for content in (bytes(damaged), broken_tar(link), bytes(sparse)):
        path.write_bytes(content)
        refused(lambda: read_pickled(path), r"a\.pth\.tar: ")


def test_a_checkpoint_whose_archive_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_npz(path, {"a": np.arange(3)})
    content = path.read_bytes()
    assert content.count(b"PK\x01\x02") == 1
    path.write_bytes(content.replace(b"PK\x01\x02", b"PK\x01\x03"))
    refused(lambda: load_state_dict_file(path), "a damaged zip archive")


@pytest.mark.parametrize("name", ["dumps", "labels", "pickles", "checkpoints"])
def test_archives_of_several_disks(tmp_path: Path, name: str) -> None:
    """Of which Python's zipfile does not even say whether they are archives."""
    readers = [reader for reader in TARGETS[name].readers if reader.zipped]
    assert readers
    for reader in readers:
        content = reader.seed("file")
        locator = b"PK\x06\x07" + struct.pack("<IQI", 0, 0, 2)
        content = content[:-22] + locator + content[-22:]
        with pytest.raises(zipfile.BadZipFile):
            zipfile.is_zipfile(io.BytesIO(content))
        assert not reader.judge("file", content, tmp_path)


# Rooms and their features.


def test_arrays_that_are_archives(tmp_path: Path) -> None:
    targets.write_store(tmp_path)
    archive = io.BytesIO()
    np.savez(archive, np.zeros((POINTS, 3), np.float32))
    (tmp_path / "rooms" / ROOM / "coords.npy").write_bytes(archive.getvalue())
    refused(lambda: RoomStore(tmp_path).room(ROOM), r"coords\.npy: damaged")
    (tmp_path / "1.npy").write_bytes(archive.getvalue())
    refused(lambda: read_features(tmp_path / "1.npy", 4), r"1\.npy: damaged, or no features")


@pytest.mark.parametrize("line", [b"\xff\xfe", b"a" * 300, b"../../rooms", b"a\0b"])
def test_splits_that_name_no_rooms(tmp_path: Path, line: bytes) -> None:
    targets.write_store(tmp_path)
    (tmp_path / "splits" / "train.txt").write_bytes(line + b"\n")
    refused(lambda: RoomStore(tmp_path).split("train"), "1 of 1 rooms of 'train' were not prepared")


@pytest.mark.parametrize("points", ["1e400", '"40"', "[" * 100_000])
def test_facts_of_other_forms(tmp_path: Path, points: str) -> None:
    targets.write_store(tmp_path)
    (tmp_path / "rooms" / ROOM / "room.json").write_text(f'{{"points": {points}, "classes": null}}')
    refused(lambda: RoomStore(tmp_path).room(ROOM), "not the facts of a room")
    targets.write_fused(tmp_path / "features", False)
    facts = tmp_path / "features" / ROOM / "fused.json"
    facts.write_text(f'{{"points": 40, "visible": {points if points[0] != chr(34) else "null"}}}')
    folder = FeatureFolder(tmp_path / "features", words())
    refused(lambda: folder.room(ROOM, POINTS), "not the facts of a room's features")


def test_a_teacher_whose_size_is_none(tmp_path: Path) -> None:
    text = '{"name": "a", "vocabulary_hash": "", "embedding_size": 1e400}'
    (tmp_path / "teacher.json").write_text(text)
    refused(lambda: FileTeacher(tmp_path), "expected name, embedding_size and vocabulary_hash")


def test_rows_below_the_first_are_not_the_last_ones(tmp_path: Path) -> None:
    targets.write_fused(tmp_path, False)
    same = tmp_path / ROOM / "same.npy"
    rows = np.load(same)
    rows[0] = -1
    np.save(same, rows)
    room = FeatureFolder(tmp_path, words()).room(ROOM, POINTS)
    refused(lambda: room.read(np.array([0])), "a row below 0, damaged")


def test_blocks_of_features_unpack_to_what_a_block_has(tmp_path: Path) -> None:
    import zstandard

    targets.write_fused(tmp_path, True)
    packed, blocks = tmp_path / ROOM / "features.zst", tmp_path / ROOM / "blocks.npy"
    bomb = zstandard.ZstdCompressor().compress(bytes(2**30))
    for content in (bomb + bytes(10_000), b"no frame" * 100):
        packed.write_bytes(content)
        np.save(blocks, np.array([0, len(content)]))
        room = FeatureFolder(tmp_path, words()).room(ROOM, POINTS)
        refused(lambda room=room: room.features, "damaged features")
    manifest = tmp_path / "fused.json"
    manifest.write_text(manifest.read_text().replace('_size": 4', f'_size": {2**40}'))
    refused(lambda: FeatureFolder(tmp_path, words()).room(ROOM, POINTS), "blocks of rows of")


# Scans, pictures and texts.


@pytest.mark.parametrize("count", [10**17, 10**12, "9" * 5000])
@pytest.mark.parametrize("format", ["ascii", "binary_little_endian"])
def test_meshes_of_more_points_than_there_are(tmp_path: Path, format: str, count: object) -> None:
    path = tmp_path / "room.ply"
    targets.write_mesh(tmp_path, format)
    path.write_bytes(path.read_bytes().replace(b"vertex 40", f"vertex {count}".encode()))
    refused(
        lambda: read_ply(path),
        "vertices need .* bytes, found|do not fit into|header's line .* not understood",
    )


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("1\twall\t" + "9" * 5000 + "\twall", "nyu40id is '9+', expected 0 to 40"),
        ("1\twall\t\u0663\twall", "nyu40id is '\u0663', expected 0 to 40"),
    ],
)
def test_label_tables_with_strange_numbers(tmp_path: Path, row: str, match: str) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(f"id\traw_category\tnyu40id\tnyu40class\n{row}\n", "utf-8")
    refused(lambda: read_label_table(path, scannet()), match)


def test_label_tables_with_long_words(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    long = "a" * 200_000  # more than Python's csv takes
    path.write_text(f"raw_category\tnyu40id\tnyu40class\r\n{long}\t1\twall\r\n", "utf-8")
    assert read_label_table(path, scannet()).table[1] == 1


def png(width: int, height: int) -> bytes:
    """A picture that claims its size, and has no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))


@pytest.mark.parametrize("size", [(9_000, 9_000), (12_000, 12_000), (60_000, 60_000)])
def test_pictures_that_claim_to_be_large(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png(*size))
    refused(lambda: image_file.read_image(tmp_path / "a.png"), "corrupt or truncated image")


def test_pictures_that_are_programs_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow gives PostScript to Ghostscript, where there is one."""
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, "EPS")
    (tmp_path / "a.jpg").write_bytes(content.getvalue())
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("it ran"))
    refused(lambda: image_file.read_image(tmp_path / "a.jpg"), "corrupt or truncated image")


def test_depth_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    targets.write_recording(tmp_path)
    path = tmp_path / "room.sens"
    content = path.read_bytes()
    bomb = zlib.compress(bytes(2**28))
    # The sizes of the first frame's colours and depth are the last of its header.
    start = content.index(b"\xff\xd8") - 16
    colors, depth = struct.unpack_from("<2Q", content, start)
    rest = start + 16 + colors
    head = content[:start] + struct.pack("<2Q", colors, len(bomb)) + content[start + 16 : rest]
    path.write_bytes(head + bomb + content[rest + depth :])
    refused(lambda: targets.read_recording(tmp_path), "frame 0: damaged depth")


def test_torch_archives_are_not_bombs(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in targets.torch_archive().items():
            archive.writestr(name, content)
    refused(lambda: read_pickled(path), "compressed in a way that is not read here")
