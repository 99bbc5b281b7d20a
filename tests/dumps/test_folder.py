"""The dump format and its folder: round trip, size, and the refusal of everything else."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zstandard

from uov_jax.datasets.keyframe import CAMERAS, Rig
from uov_jax.dumps import file as dump_file
from uov_jax.dumps.file import CameraMasks, DumpError, TeacherDump, read_dump, write_dump
from uov_jax.dumps.folder import DumpFolder, DumpManifest, MissingDumpError, expected_bytes

SIZE = (12, 20)


def camera(channel: str = "CAM_FRONT", masks: int = 5, dimensions: int = 8) -> CameraMasks:
    rng = np.random.default_rng(len(channel) + masks)
    image = rng.integers(0, masks + 1, SIZE)
    embeddings = rng.normal(size=(masks, dimensions))
    return CameraMasks(channel, f"token-{channel}", image, np.arange(masks) - 1, embeddings)


def dump(**changes) -> TeacherDump:
    cameras = (camera("CAM_FRONT"), camera("CAM_BACK", masks=0), camera("CAM_BACK_LEFT", masks=300))
    plain = TeacherDump("tiny", "w" * 64, "v" * 64, "keyframe-1", cameras)
    return dataclasses.replace(plain, **changes)


def manifest(**changes) -> DumpManifest:
    sizes = dict.fromkeys(("CAM_FRONT", "CAM_BACK", "CAM_BACK_LEFT"), SIZE)
    plain = DumpManifest("tiny", "w" * 64, "words", "v" * 64, 8, sizes)
    return dataclasses.replace(plain, **changes)


def assert_equal(a: TeacherDump, b: TeacherDump) -> None:
    for name in ("teacher", "weights_hash", "vocabulary_hash", "keyframe"):
        assert getattr(a, name) == getattr(b, name)
    assert len(a.cameras) == len(b.cameras)
    for one, other in zip(a.cameras, b.cameras, strict=True):
        assert (one.channel, one.token) == (other.channel, other.token)
        for name in ("masks", "words", "embeddings"):
            assert getattr(one, name).dtype == getattr(other, name).dtype
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_round_trip_keeps_everything(tmp_path):
    path = tmp_path / "k.npz"
    size = write_dump(path, dump())
    assert size == path.stat().st_size
    again = read_dump(path, embedding_size=8)
    assert_equal(again, dump())
    assert again.format_version == dump_file.FORMAT_VERSION
    assert again.embedding_size == 8
    assert again.camera("CAM_BACK_LEFT").num_masks == 300
    v, u = np.indices(SIZE).reshape(2, -1)
    for one in again.cameras:
        np.testing.assert_array_equal(one.lookup(v, u), one.masks[v, u])


def test_the_file_is_a_plain_npz_and_equal_dumps_give_equal_bytes(tmp_path):
    write_dump(tmp_path / "a.npz", dump())
    write_dump(tmp_path / "b.npz", dump())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert json.loads(archive["header"].tobytes())["teacher"] == "tiny"
        assert len(zstandard.decompress(archive["word"].tobytes())) == 4 * 305


def test_runs_longer_than_16_bits_are_kept(tmp_path):
    image = np.zeros((900, 1600), np.uint16)
    image[100, 7] = 1
    plain = camera()
    wide = CameraMasks("CAM_FRONT", "t", image, plain.words, plain.embeddings)
    write_dump(tmp_path / "k.npz", dump(cameras=(wide,)))
    np.testing.assert_array_equal(read_dump(tmp_path / "k.npz").cameras[0].masks, image)


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    before = path.read_bytes()
    monkeypatch.setattr(np.lib.format, "write_array", _no_space)
    with pytest.raises(OSError, match="no space"):
        write_dump(path, dump(teacher="other"))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["k.npz"]


def _no_space(*args, **kwargs):
    raise OSError("no space left on device")


def test_every_truncation_is_refused_with_the_file(tmp_path):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    content = path.read_bytes()
    for length in [0, 1, *range(30, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(DumpError, match="corrupt or truncated") as caught:
            read_dump(path)
        assert str(caught.value).startswith(str(path))


def test_every_flipped_byte_is_refused_or_harmless(tmp_path):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    content = bytearray(path.read_bytes())
    refused = 0
    for place in range(0, len(content), 7):
        content[place] ^= 0x5A
        path.write_bytes(content)
        try:
            assert_equal(read_dump(path), dump())  # a byte that zip readers ignore
        except DumpError:
            refused += 1
        content[place] ^= 0x5A
    assert refused > len(content) // 7 // 2


def rewrite(path: Path, **arrays: np.ndarray) -> None:
    with np.load(path, allow_pickle=False) as archive:
        content = {name: archive[name] for name in archive.files}
    np.savez(path, **(content | arrays))


def header(path: Path, **changes) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        content = json.loads(archive["header"].tobytes()) | changes
    return np.frombuffer(json.dumps(content).encode(), np.uint8)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (1, "format version 1 of an earlier uov_jax, expected 2: write the dumps, or"),
        (3, "format version 3, this program reads 2: update uov_jax"),
    ],
)
def test_another_format_is_refused(tmp_path, version, message):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    rewrite(path, header=header(path, format_version=version))
    with pytest.raises(DumpError, match=f"k.npz: {message}"):
        read_dump(path)


def packed(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(zstandard.compress(array.tobytes()), np.uint8)


def test_arrays_that_contradict_the_header_are_refused(tmp_path):
    path = tmp_path / "k.npz"
    for name, array, message in [
        ("word", packed(np.zeros(3, np.int32)), r"other than the \[305\] numbers that the header"),
        ("run_length", packed(np.zeros((2, 3), np.uint8)), r"numbers that the header says"),
        ("run_mask", packed(np.zeros((3, 3), np.uint8)), r"numbers that the header says"),
        ("embedding", packed(np.zeros((2, 305 * 7), np.uint8)), r"\[2, 2440\] numbers that the"),
        ("word", np.zeros(0, np.uint8), "corrupt"),
        ("word", np.zeros(9, np.uint8), "corrupt"),
        ("header", np.frombuffer(b"[1]", np.uint8), "corrupt"),
    ]:
        write_dump(path, dump())
        rewrite(path, **{name: array})
        with pytest.raises(DumpError, match=message):
            read_dump(path)
    write_dump(path, dump())
    rewrite(path, header=header(path, id_bytes=3))
    with pytest.raises(DumpError, match="corrupt"):
        read_dump(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("masks", 70_000, "70000 masks in an image of 12 x 20 pixels"),
        ("runs", 241, "241 runs and"),
        ("height", 12.0, "expected whole numbers"),
        ("width", "20", "expected whole numbers"),
        ("token", None, "expected strings"),
    ],
)
def test_headers_that_cannot_be_are_refused_before_anything_is_unpacked(
    tmp_path, field, value, message
):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    with np.load(path, allow_pickle=False) as archive:
        content = json.loads(archive["header"].tobytes())
    content["cameras"][0][field] = value
    rewrite(path, header=header(path, cameras=content["cameras"]))
    with pytest.raises(DumpError, match=f"k.npz: corrupt or truncated.*{message}"):
        read_dump(path)


def test_what_is_no_array_is_refused(tmp_path):
    path = tmp_path / "k.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("header.npy", b"hello")
    with pytest.raises(DumpError, match="k.npz: corrupt or truncated"):
        read_dump(path)


def test_damage_within_a_frame_is_refused(tmp_path):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    with np.load(path, allow_pickle=False) as archive:
        frame = archive["embedding"]
    rewrite(path, embedding=frame[:-9])
    with pytest.raises(DumpError, match="k.npz: corrupt or truncated"):
        read_dump(path)


def test_ids_beyond_the_masks_are_refused_on_reading(tmp_path):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    with np.load(path, allow_pickle=False) as archive:
        planes = zstandard.decompress(archive["run_mask"].tobytes())
    run_mask = np.frombuffer(planes, np.uint8).reshape(2, -1).copy()
    run_mask[1, 0] = 9
    rewrite(path, run_mask=packed(run_mask))
    with pytest.raises(DumpError, match=r"mask id 2\d\d\d in the image, but only 5 masks"):
        read_dump(path)


def test_a_dump_without_words_needs_no_vocabulary(tmp_path):
    plain = camera()
    wordless = CameraMasks("CAM_FRONT", "t", plain.masks, np.full(5, -1), plain.embeddings)
    write_dump(tmp_path / "k.npz", dump(vocabulary_hash="", cameras=(wordless,)))
    assert read_dump(tmp_path / "k.npz").vocabulary_hash == ""


def test_another_embedding_size_is_refused(tmp_path):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    with pytest.raises(DumpError, match="embeddings have 8 dimensions, expected 768"):
        read_dump(path, embedding_size=768)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"k.npz: no such teacher dump"):
        read_dump(tmp_path / "k.npz")


MASKS = np.array([[0, 1], [2, 2]])


@pytest.mark.parametrize(
    ("masks", "words", "embeddings", "message"),
    [
        (MASKS + 1, [0, 1], np.ones((2, 4)), "mask id 3 in the image, but only 2 masks"),
        (MASKS, [0], np.ones((2, 4)), "1 words but 2 embeddings"),
        (MASKS, [[0, 1]], np.ones((2, 4)), "words must be"),
        (MASKS, [0, -2], np.ones((2, 4)), "word index -2"),
        (MASKS, [0, 1], np.array([[1.0], [70000.0]]), "embedding of mask 2 is not finite"),
        (MASKS, [0, 1], np.array([[np.nan], [1.0]]), "embedding of mask 1 is not finite"),
    ],
)
def test_camera_masks_that_do_not_fit_together_are_refused(masks, words, embeddings, message):
    with pytest.raises(ValueError, match=f"CAM_X: .*{message}"):
        CameraMasks("CAM_X", "t", masks, np.array(words), embeddings)


def test_dumps_whose_cameras_do_not_fit_together_are_refused():
    for cameras, message in [
        ((), "no camera"),
        ((camera(), camera()), "a camera twice"),
        ((camera(), camera("CAM_BACK", dimensions=9)), "different sizes"),
    ]:
        with pytest.raises(ValueError, match=message):
            dump(cameras=cameras)
    with pytest.raises(ValueError, match="words, but no vocabulary hash"):
        dump(vocabulary_hash="")
    with pytest.raises(DumpError, match="no camera CAM_LEFT, it has CAM_FRONT"):
        dump().camera("CAM_LEFT")


# ---- folder -------------------------------------------------------------------------------------

TEXT = np.random.default_rng(3).normal(size=(305, 8))


def test_folder_round_trip(tmp_path):
    folder = DumpFolder.create(tmp_path / "a" / "b", manifest(), TEXT)
    assert "keyframe-1" not in folder
    folder.write(dump())
    again = DumpFolder(tmp_path / "a" / "b")
    assert again.manifest == manifest()
    assert "keyframe-1" in again
    assert_equal(again.read("keyframe-1"), dump())
    again.check(["keyframe-1"], contents=True)
    expected = TEXT / np.linalg.norm(TEXT, axis=1, keepdims=True)
    np.testing.assert_allclose(again.text_embeddings, expected, rtol=1e-6)
    assert again.text_embeddings.dtype == np.float32


def test_a_folder_is_gone_on_with_only_by_the_same_teacher(tmp_path):
    DumpFolder.create(tmp_path, manifest()).write(dump())
    assert "keyframe-1" in DumpFolder.create(tmp_path, manifest())
    with pytest.raises(DumpError, match=r"settings\.autocast = 'nothing', not of 'bfloat16'"):
        DumpFolder.create(tmp_path, manifest(settings={"autocast": "bfloat16"}))
    sized = manifest(settings={"size": (640, 480)})
    for _ in range(2):
        assert DumpFolder.create(tmp_path / "sized", sized).manifest == sized
    with pytest.raises(DumpError, match="holds teacher dumps of .*give another folder"):
        DumpFolder.create(tmp_path, manifest(weights_hash="x" * 64))


def test_missing_keyframes_are_counted_and_named(tmp_path):
    folder = DumpFolder.create(tmp_path, manifest())
    folder.write(dump())
    message = (
        r"2 of 3 keyframes have no dump of the teacher 'tiny', the first one is b: run scripts"
    )
    with pytest.raises(MissingDumpError, match=message):
        folder.check(["keyframe-1", "b", "c"])
    with pytest.raises(MissingDumpError, match="1 of 1 keyframes have no dump"):
        folder.read("b")


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": "other"},
        {"weights_hash": "x" * 64},
        {"vocabulary_hash": "x" * 64},
        {"cameras": (camera(dimensions=9),)},
        {"cameras": (camera(), camera("CAM_BACK"))},
        {"cameras": (*dump().cameras, camera("CAM_LEFT"))},
    ],
)
def test_dumps_that_do_not_belong_into_the_folder_are_refused(tmp_path, changes):
    folder = DumpFolder.create(tmp_path, manifest())
    with pytest.raises(DumpError, match=r"expected .* as in .*dump.json"):
        folder.write(dump(**changes))
    write_dump(folder.path("keyframe-1"), dump(**changes))
    with pytest.raises(DumpError, match="expected"):
        folder.read("keyframe-1")


def test_a_dump_under_another_keyframes_name_is_refused(tmp_path):
    folder = DumpFolder.create(tmp_path, manifest())
    write_dump(folder.path("keyframe-2"), dump())
    with pytest.raises(DumpError, match="keyframe is 'keyframe-1', expected 'keyframe-2'"):
        folder.read("keyframe-2")


def test_masks_of_another_image_size_are_refused(tmp_path):
    sizes = manifest().image_sizes | {"CAM_BACK": (900, 1600)}
    folder = DumpFolder.create(tmp_path, manifest(image_sizes=sizes))
    with pytest.raises(DumpError, match=r"CAM_BACK are \(12, 20\) pixels .* \(900, 1600\) as in"):
        folder.write(dump())


def test_a_manifest_of_version_2_is_one_of_nuscenes_cameras(tmp_path):
    """It is read as it stands, and gone on with."""
    sizes = dict.fromkeys(CAMERAS, SIZE)
    now = DumpManifest("tiny", "w" * 64, "words", "v" * 64, 8, sizes)
    old = {
        "teacher": "tiny",
        "weights_hash": "w" * 64,
        "vocabulary": "words",
        "vocabulary_hash": "v" * 64,
        "embedding_size": 8,
        "image_size": list(SIZE),
        "format_version": 2,
        "settings": {},
    }
    (tmp_path / "dump.json").write_text(json.dumps(old))
    assert DumpFolder(tmp_path).manifest == now
    folder = DumpFolder.create(tmp_path, now)
    cameras = tuple(camera(channel) for channel in CAMERAS)
    folder.write(dump(cameras=cameras))
    assert_equal(DumpFolder(tmp_path).read("keyframe-1"), dump(cameras=cameras))
    assert json.loads((tmp_path / "dump.json").read_text()) == old
    fewer = dataclasses.replace(now, image_sizes={"CAM_FRONT": SIZE})
    with pytest.raises(
        DumpError, match=r"dumps of image_sizes\.CAM_.* = \(12, 20\), not of 'nothing'"
    ):
        DumpFolder.create(tmp_path, fewer)


def test_keyframes_of_cameras_that_were_not_dumped_are_refused(tmp_path):
    folder = DumpFolder.create(tmp_path, manifest())
    folder.write(dump())
    some = SimpleNamespace(token="keyframe-1", rig=Rig(cameras=("CAM_BACK",)))
    folder.check([some])
    other = SimpleNamespace(token="keyframe-1", rig=Rig(cameras=("CAM_BACK", "CAM_A", "CAM_B")))
    message = r"dump.json: dumps of CAM_FRONT, CAM_BACK, CAM_BACK_LEFT, not of CAM_A, CAM_B: name"
    with pytest.raises(DumpError, match=message):
        folder.check([some, other])


def test_a_folder_of_another_vocabulary_is_refused(tmp_path, vocabulary):
    DumpFolder.create(tmp_path, manifest())
    with pytest.raises(DumpError, match=r"made with another vocabulary \('words', hash vvv"):
        DumpFolder(tmp_path, vocabulary)


def test_words_beyond_the_vocabulary_are_refused(tmp_path, vocabulary):
    own = {"vocabulary_hash": vocabulary.hash}
    DumpFolder.create(tmp_path, manifest(**own)).write(dump(**own))
    with pytest.raises(DumpError, match="CAM_BACK_LEFT has the word index 298, .* has 175 words"):
        DumpFolder(tmp_path, vocabulary).read("keyframe-1")


def test_text_embeddings_are_checked(tmp_path, vocabulary):
    own = manifest(vocabulary_hash=vocabulary.hash)
    with pytest.raises(DumpError, match=r"shape \(305, 7\), expected \[words, 8\]"):
        DumpFolder.create(tmp_path, own, TEXT[:, :7])
    with pytest.raises(DumpError, match="row 4 has the norm 0.0"):
        DumpFolder.create(tmp_path, own, np.where(np.arange(305)[:, None] == 4, 0, TEXT))
    DumpFolder.create(tmp_path, own)
    with pytest.raises(DumpError, match="missing, though the teacher 'tiny' has words"):
        _ = DumpFolder(tmp_path).text_embeddings
    DumpFolder.create(tmp_path, own, TEXT)
    with pytest.raises(DumpError, match="305 rows, expected one for each of the 175 words"):
        _ = DumpFolder(tmp_path, vocabulary).text_embeddings
    path = tmp_path / "text_embeddings.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DumpError, match=r"text_embeddings.npz: corrupt or truncated"):
        _ = DumpFolder(tmp_path).text_embeddings


def test_a_teacher_without_words_has_no_text_embeddings(tmp_path):
    folder = DumpFolder.create(tmp_path, manifest(vocabulary="", vocabulary_hash=""))
    assert folder.text_embeddings is None


def test_a_folder_without_manifest_says_what_writes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no teacher dumps here.*dump_teacher.py"):
        DumpFolder(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a manifest"),
        ("{}", "not a manifest"),
        ('{"format_version": 2, "image_size": [1, 2], "colour": 1}', "not a manifest"),
        ('{"format_version": 2}', "not a manifest"),
        ('{"format_version": [2]}', "not a manifest"),
        ('{"format_version": 1}', "format version 1 of an earlier uov_jax, expected 3: write the"),
        ('{"format_version": 5}', "format version 5, this program reads 3: update"),
    ],
)
def test_malformed_manifests_are_refused(tmp_path, content, message):
    (tmp_path / "dump.json").write_text(content)
    with pytest.raises(DumpError, match=message):
        DumpFolder(tmp_path)


def test_the_expected_size_is_near_the_true_one(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.linspace(0, 4 * np.pi, 900)
    cameras = []
    for number in range(6):  # wavy bands, as smooth as a teacher's masks
        edges = np.sort(rng.uniform(0, 1600, 24)) + 20 * np.sin(rows + number)[:, None]
        image = (np.arange(1600)[None, :, None] > edges[:, None]).sum(axis=2)
        embeddings = rng.normal(size=(24, 768))
        cameras.append(CameraMasks(f"C{number}", "t", image, np.arange(24), embeddings))
    size = write_dump(tmp_path / "k.npz", dump(cameras=tuple(cameras)))
    estimate = expected_bytes(1, 768, masks_per_image=24)
    assert 0.6 < size / estimate < 1.5
    assert expected_bytes(34_149, 768, 20) == pytest.approx(
        34_149 / 10 * expected_bytes(10, 768, 20)
    )


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_reading_does_not_unpickle(tmp_path):
    path = tmp_path / "k.npz"
    write_dump(path, dump())
    rewrite(path, word=np.array([Trap(tmp_path / "trapped")], dtype=object))
    with pytest.raises(DumpError, match="corrupt"):
        read_dump(path)
    assert not (tmp_path / "trapped").exists()


FULL_DISK = """
import dataclasses, resource, signal, sys
from pathlib import Path
from tests.dumps.test_folder import dump, manifest
from uov_jax.command_line import command
from uov_jax.dumps.folder import DumpFolder

folder = DumpFolder.create(Path(sys.argv[1]), manifest(), None)
size = folder.write(dump(keyframe="whole"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
sys.exit(command.run(lambda: print(folder.write(dump(keyframe="half")))))
"""


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_whole_dumps_alone(tmp_path):
    """A true limit on the size of files, met in the middle of one."""
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "dumps")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
        check=False,
    )
    folder = DumpFolder(tmp_path / "dumps")
    assert run.stderr == f"error: {folder.path('half')}: File too large\n"
    assert run.returncode == 1
    assert "whole" in folder
    assert "half" not in folder
    assert_equal(folder.read("whole"), dump(keyframe="whole"))
    left = [path.name for path in (tmp_path / "dumps").rglob("*") if path.is_file()]
    assert sorted(left) == sorted([folder.path("whole").name, "dump.json"])
