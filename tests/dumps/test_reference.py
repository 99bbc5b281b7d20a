"""The reference implementation's dumps, in the three teachers' formats, and their refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny_dataset import HEIGHT, WIDTH
from uov_jax.dumps.file import DumpError
from uov_jax.dumps.folder import DumpFolder, MissingDumpError
from uov_jax.dumps.reference import ReferenceDumpFolder, open_dumps, write_reference_text
from uov_jax.input.tri_modal import TriModalSource

MASKS = 5
DIMENSIONS = 768


def test_the_package_reads_native_dumps_without_torch():
    code = (
        "import sys; import uov_jax.dumps.reference, uov_jax.input.loader, uov_jax.teachers;"
        "assert 'torch' not in sys.modules and 'nuscenes' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_without_torch_dumps_are_read_but_not_written(
    tmp_path, tiny_keyframes, vocabulary, monkeypatch
):
    write_folder(tmp_path, tiny_keyframes[:1], "san")
    monkeypatch.setitem(sys.modules, "torch", None)
    dumps = open_dumps(tmp_path, vocabulary)
    assert dumps.text_embeddings.shape == (175, DIMENSIONS)
    assert len(dumps.read(tiny_keyframes[0]).cameras) == 6
    with pytest.raises(ImportError, match=r"other/.* need the package 'torch': pip install torch"):
        write_reference_text(tmp_path / "other", dumps.text_embeddings, "san")


def write_folder(root: Path, keyframes, teacher: str) -> dict[str, dict[str, np.ndarray]]:
    """Write the files as the reference's scripts do; returns what they hold by image token."""
    import torch

    rng = np.random.default_rng(0)
    rows = 176 if teacher == "fcclip" else 175
    torch.save(torch.randn(rows, DIMENSIONS), root / "text_embedding.pt")
    content = {}
    for token in [camera.token for keyframe in keyframes for camera in keyframe.cameras]:
        masks = rng.integers(0, MASKS + 1, (HEIGHT, WIDTH)).astype(np.uint8)
        words = rng.integers(0, 175, MASKS)
        rows = np.concatenate([np.zeros((1, DIMENSIONS)), rng.normal(size=(MASKS, DIMENSIONS))])
        rows = torch.tensor(rows, dtype=torch.float32)
        extra = {"isthing": True} if teacher == "fcclip" else {"area": 10}
        entries = [{"id": i + 1, "category_id": int(word), **extra} for i, word in enumerate(words)]
        Image.fromarray(masks).save(root / f"{token}.png")
        (root / f"{token}.json").write_text(json.dumps(entries[::-1]))
        torch.save([rows * 0, rows] if teacher == "fcclip" else rows, root / f"{token}.pt")
        content[token] = {"masks": masks, "words": words, "embeddings": rows[1:].numpy()}
    return content


@pytest.mark.parametrize("teacher", ["san", "catseg", "fcclip"])
def test_the_three_formats_are_read(tmp_path, tiny_keyframes, vocabulary, teacher):
    content = write_folder(tmp_path, tiny_keyframes, teacher)
    folder = open_dumps(tmp_path, vocabulary)
    assert isinstance(folder, ReferenceDumpFolder)
    assert folder.teacher == ("fcclip" if teacher == "fcclip" else "reference")
    assert folder.embedding_size == DIMENSIONS
    assert folder.text_embeddings.shape == (175, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(folder.text_embeddings, axis=1), 1, rtol=1e-5)
    folder.check(tiny_keyframes)
    dump = folder.read(tiny_keyframes[1])
    assert dump.keyframe == tiny_keyframes[1].token
    assert dump.vocabulary_hash == vocabulary.hash
    for camera, view in zip(dump.cameras, tiny_keyframes[1].cameras, strict=True):
        assert (camera.channel, camera.token) == (view.channel, view.token)
        expected = content[view.token]
        np.testing.assert_array_equal(camera.masks, expected["masks"])
        np.testing.assert_array_equal(camera.words, expected["words"])
        np.testing.assert_allclose(camera.embeddings, expected["embeddings"], rtol=1e-3)


def test_training_samples_come_from_either_kind_of_folder(tmp_path, tiny_keyframes, vocabulary):
    write_folder(tmp_path, tiny_keyframes, "san")
    source = TriModalSource(tiny_keyframes, open_dumps(tmp_path, vocabulary))
    sample = source.sample(0, np.random.default_rng(0))
    assert sample.superpoint_embedding.shape[1] == DIMENSIONS
    assert len(sample.pair_voxel) > 100


def test_native_folders_are_opened_as_such(tiny_dumps, vocabulary):
    assert isinstance(open_dumps(tiny_dumps.root, vocabulary), DumpFolder)


def test_a_folder_of_neither_kind_says_what_writes_one(tmp_path, vocabulary):
    with pytest.raises(FileNotFoundError, match=r"dump_teacher.py"):
        open_dumps(tmp_path, vocabulary)
    with pytest.raises(FileNotFoundError, match=r"text_embedding.pt: no dumps of the reference"):
        ReferenceDumpFolder(tmp_path, vocabulary)


def spoil_and_read(tmp_path, keyframes, vocabulary, spoil, teacher="san"):
    import torch

    write_folder(tmp_path, keyframes[:1], teacher)
    token = keyframes[0].cameras[2].token
    spoil(torch, tmp_path / f"{token}.png", tmp_path / f"{token}.json", tmp_path / f"{token}.pt")
    return ReferenceDumpFolder(tmp_path, vocabulary).read(keyframes[0])


def entries(change):
    def spoil(torch, png, listing, pt):
        content = json.loads(listing.read_text())
        change(content)
        listing.write_text(json.dumps(content))

    return spoil


def tensor(make):
    return lambda torch, png, listing, pt: torch.save(make(torch), pt)


def truncate(number):
    def spoil(torch, *paths):
        content = paths[number].read_bytes()
        paths[number].write_bytes(content[: len(content) // 2])

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate(0), r"png: corrupt or truncated image"),
        (truncate(1), r"json: not a list of masks"),
        (truncate(2), r"pt: damaged, or not of torch.save"),
        (
            lambda torch, png, *rest: Image.fromarray(np.full((HEIGHT, WIDTH), 6, np.uint8)).save(
                png
            ),
            r"png: CAM_BACK_RIGHT: mask id 6 in the image, but only 5 masks",
        ),
        (
            lambda torch, png, *rest: Image.new("RGB", (WIDTH, HEIGHT)).save(png),
            r"png: uint8 of shape \(90, 160, 3\), expected a grey image",
        ),
        (entries(lambda e: e.pop()), r"mask ids \[2, 3, 4, 5\], expected each of 1..5 once"),
        (entries(lambda e: e.append(e[0])), r"expected each of 1..5 once"),
        (entries(lambda e: e[-1].update(category_id=175)), r"mask 1 has the category_id 175"),
        (entries(lambda e: e[0].pop("id")), r"json: not a list of masks"),
        (
            tensor(lambda torch: torch.zeros(6, 512)),
            r"shape \(6, 512\), expected \(masks \+ 1, 768",
        ),
        (tensor(lambda torch: torch.ones(6, 768)), r"row 0 stands for void and must be zeros"),
        (tensor(lambda torch: [torch.zeros(6, 768)]), r"a list of 1, expected \[fin, fout\]"),
        (tensor(lambda torch: {"a": 1}), r"holds dict, expected a tensor"),
        (tensor(lambda torch: Path("x")), r"more than tensors in it: the content: pathlib"),
    ],
)
def test_files_that_are_corrupt_or_disagree_are_refused(
    tmp_path, tiny_keyframes, vocabulary, spoil, message
):
    with pytest.raises(DumpError, match=message):
        spoil_and_read(tmp_path, tiny_keyframes, vocabulary, spoil)


def test_missing_files_are_counted(tmp_path, tiny_keyframes, vocabulary):
    write_folder(tmp_path, tiny_keyframes[:1], "san")
    folder = ReferenceDumpFolder(tmp_path, vocabulary)
    token = tiny_keyframes[1].cameras[0].token
    with pytest.raises(MissingDumpError, match=rf"{token}.png: 18 of the 36 files of 2 keyframes"):
        folder.check(tiny_keyframes[:2])
    with pytest.raises(MissingDumpError, match="18 of the 18"):
        folder.read(tiny_keyframes[1])


def test_text_embeddings_of_another_vocabulary_are_refused(tmp_path, vocabulary):
    import torch

    torch.save(torch.ones(20, 768), tmp_path / "text_embedding.pt")
    with pytest.raises(DumpError, match=r"shape \(20, 768\), expected 175 rows, or 176"):
        ReferenceDumpFolder(tmp_path, vocabulary)


def test_a_token_alone_does_not_name_the_images(tmp_path, tiny_keyframes, vocabulary):
    write_folder(tmp_path, tiny_keyframes[:1], "san")
    with pytest.raises(TypeError, match="needs the Keyframe"):
        ReferenceDumpFolder(tmp_path, vocabulary).read(tiny_keyframes[0].token)
