"""Conversion of dumps: nothing lost but half precision, and what the native format saves."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.conftest import DATA
from tests.dumps.test_reference import write_folder
from tests.tiny_dataset import write_dumps
from uov_jax.dumps.check import find_problems
from uov_jax.dumps.convert import to_native, to_reference
from uov_jax.dumps.file import CameraMasks, DumpError, TeacherDump, read_dump, write_dump
from uov_jax.dumps.folder import DumpFolder, MissingDumpError
from uov_jax.dumps.reference import ReferenceDumpFolder, write_reference_dump


def assert_same_content(one: TeacherDump, other: TeacherDump) -> None:
    for a, b in zip(one.cameras, other.cameras, strict=True):
        assert (a.channel, a.token) == (b.channel, b.token)
        np.testing.assert_array_equal(a.masks, b.masks)
        np.testing.assert_array_equal(a.words, b.words)
        np.testing.assert_array_equal(a.embeddings, b.embeddings)


@pytest.mark.parametrize("teacher", ["san", "fcclip"])
def test_there_and_back_again(tmp_path, tiny_keyframes, vocabulary, teacher):
    reference = tmp_path / "reference"
    reference.mkdir()
    write_folder(reference, tiny_keyframes, teacher)
    source = ReferenceDumpFolder(reference, vocabulary, teacher)
    result = to_native(source, tiny_keyframes, tmp_path / "native", vocabulary)
    native = DumpFolder(tmp_path / "native", vocabulary)
    assert (result.written, result.found) == (4, 0)
    assert native.teacher == teacher
    assert find_problems(native, tiny_keyframes) == []
    np.testing.assert_allclose(native.text_embeddings, source.text_embeddings, rtol=1e-6)

    result = to_reference(native, tiny_keyframes, tmp_path / "back", vocabulary)
    assert (result.written, result.found) == (4, 0)
    back = ReferenceDumpFolder(tmp_path / "back", vocabulary, teacher)
    assert {p.name for p in back.root.iterdir()} == {p.name for p in reference.iterdir()}
    np.testing.assert_allclose(back.text_embeddings, source.text_embeddings, rtol=1e-6)
    for keyframe in tiny_keyframes:
        assert_same_content(native.read(keyframe), source.read(keyframe))
        assert_same_content(back.read(keyframe), native.read(keyframe))


def test_the_files_are_those_that_the_references_code_reads(tmp_path, tiny_keyframes, vocabulary):
    import torch

    dumps = write_dumps(tmp_path / "native", tiny_keyframes[:1], vocabulary)
    to_reference(dumps, tiny_keyframes[:1], tmp_path / "out", vocabulary)
    camera = dumps.read(tiny_keyframes[0]).cameras[1]
    with Image.open(tmp_path / "out" / f"{camera.token}.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), camera.masks)
    entries = json.loads((tmp_path / "out" / f"{camera.token}.json").read_text())
    assert [entry["id"] for entry in entries] == [1, 2, 3, 4]
    assert [entry["category_id"] for entry in entries] == camera.words.tolist()
    areas = np.bincount(camera.masks.ravel())[1:].tolist()
    assert [entry["area"] for entry in entries] == areas
    rows = torch.load(tmp_path / "out" / f"{camera.token}.pt", weights_only=True)
    assert rows.dtype == torch.float32
    assert rows.shape == (5, 16)
    assert not rows[0].any()
    np.testing.assert_array_equal(rows[1:].numpy(), camera.embeddings.astype(np.float32))


def test_a_stopped_conversion_goes_on(tmp_path, tiny_keyframes, vocabulary):
    dumps = write_dumps(tmp_path / "native", tiny_keyframes, vocabulary)
    said: list[str] = []
    out = tmp_path / "out"
    assert to_reference(dumps, tiny_keyframes[:3], out, vocabulary, said.append)[:2] == (3, 0)
    (out / f"{tiny_keyframes[1].cameras[5].token}.pt").unlink()
    assert to_reference(dumps, tiny_keyframes, out, vocabulary, said.append)[:2] == (2, 2)
    assert said[2] == "2 keyframes to convert, 2 done already."
    assert re.fullmatch(r"Expected size: [\d.]+ kB in .*/out, measured on 2\.", said[3])
    source = ReferenceDumpFolder(out, vocabulary)
    again = tmp_path / "again"
    assert to_native(source, tiny_keyframes[:2], again, vocabulary)[:2] == (2, 0)
    assert to_native(source, tiny_keyframes, again, vocabulary)[:2] == (2, 2)


def test_missing_dumps_are_found_before_anything_is_written(tmp_path, tiny_keyframes, vocabulary):
    dumps = write_dumps(tmp_path / "native", tiny_keyframes[:1], vocabulary)
    with pytest.raises(MissingDumpError, match="3 of 4 keyframes have no dump"):
        to_reference(dumps, tiny_keyframes, tmp_path / "out", vocabulary)
    assert not (tmp_path / "out").exists()


def test_what_the_reference_cannot_hold_is_refused(tmp_path, vocabulary):
    masks = np.zeros((4, 4), np.uint16)
    for words, message in [([-1, 2], "1 of them without a word"), ([1] * 256, "has 256 masks")]:
        camera = CameraMasks("CAM_FRONT", "t", masks, np.array(words), np.ones((len(words), 3)))
        dump = TeacherDump("tiny", "", "v", "k", (camera,))
        with pytest.raises(DumpError, match=message):
            write_reference_dump(tmp_path, dump, vocabulary)
    assert not list(tmp_path.iterdir())


# ---- what the native format saves ---------------------------------------------------------------


# SAN's masks are large and calm; CAT-Seg's are as noisy as masks get, 208,000 runs an image.
@pytest.fixture(params=["san", "catseg"])
def measured(request) -> CameraMasks:
    """Masks and embeddings that the official code gave a real image, with made-up weights."""
    with np.load(DATA / f"{request.param}_CAM_FRONT.npz") as file:
        return CameraMasks(
            "CAM_FRONT", "t", file["seg_map"], file["category_ids"], file["mask_emb"][1:]
        )


def test_native_dumps_take_half_of_the_references_bytes(tmp_path, vocabulary, measured):
    # One camera: compression would find copies of it again, which would be no merit.
    import torch

    dump = TeacherDump("san", "", vocabulary.hash, "k", (measured,))
    keyframe = SimpleNamespace(token="k", cameras=(measured,))
    text = torch.nn.functional.normalize(torch.rand(175, 768), dim=1)
    torch.save(text, tmp_path / "text_embedding.pt")
    theirs = write_reference_dump(tmp_path, dump, vocabulary)
    source = ReferenceDumpFolder(tmp_path, vocabulary, "san")
    assert write_dump(tmp_path / "k.npz", dump) < 0.5 * theirs
    assert_same_content(read_dump(tmp_path / "k.npz"), source.read(keyframe))


def test_a_native_keyframe_is_one_file_instead_of_eighteen(tmp_path, tiny_keyframes, vocabulary):
    (tmp_path / "reference").mkdir()
    write_folder(tmp_path / "reference", tiny_keyframes, "san")
    source = ReferenceDumpFolder(tmp_path / "reference", vocabulary)
    to_native(source, tiny_keyframes, tmp_path / "native", vocabulary)
    (keyframe, *_) = tiny_keyframes
    assert len(source.paths(keyframe)) == 18
    assert all(path.is_file() for path in source.paths(keyframe))
    assert len(list((tmp_path / "native").glob(f"{keyframe.token}*"))) == 1
