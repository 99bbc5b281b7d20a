"""Dumping a teacher over a dataset, from Python and by the script."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.data_pipeline.tiny_dataset import HEIGHT, WIDTH, write_dataset
from uov_jax.data.dump import DumpError, DumpFolder
from uov_jax.data.dump_keyframes import dump_keyframes, read_image
from uov_jax.data.nuscenes import NuScenesTables
from uov_jax.data.tmp_sample import TmpSource
from uov_jax.teachers import Segmentation


class Halves:
    """A teacher of two masks, the left and the right half; counts what it is asked."""

    name = "halves"
    weights_hash = "h" * 64
    embedding_size = 3
    masks_per_image = 2

    def __init__(self, words: int = 0, fail_after: int = 10**9) -> None:
        self.text_embeddings = np.eye(words, 3) + 1 if words else None
        self.images = 0
        self.fail_after = fail_after

    def segment(self, image):
        self.images += 1
        if self.images > self.fail_after:
            raise KeyboardInterrupt
        masks = np.ones(image.shape[:2], np.uint16)
        masks[:, image.shape[1] // 2 :] = 2
        words = np.array([3, 4]) if self.text_embeddings is not None else np.array([-1, -1])
        return Segmentation(masks, words, image[:2, 0].astype(np.float32))


def test_every_image_is_segmented_once(tmp_path, tiny_keyframes, vocabulary):
    said: list[str] = []
    teacher = Halves(words=175)
    result = dump_keyframes(teacher, tiny_keyframes, tmp_path, vocabulary, said.append)
    assert (result.written, result.found) == (4, 0)
    assert teacher.images == 24
    assert "4 keyframes (24 images) to do, 0 done already. Expected size: " in said[0]
    folder = DumpFolder(tmp_path, vocabulary)
    assert folder.manifest.image_size == (HEIGHT, WIDTH)
    assert folder.text_embeddings.shape == (175, 3)
    assert result.bytes == sum(p.stat().st_size for p in tmp_path.glob("scene*.npz"))
    dump = folder.read(tiny_keyframes[2])
    for camera, view in zip(dump.cameras, tiny_keyframes[2].cameras, strict=True):
        assert camera.token == view.token
        expected = read_image(view.path)[:2, 0]
        np.testing.assert_array_equal(camera.embeddings, expected)
    TmpSource(tiny_keyframes, folder).sample(0, np.random.default_rng(0))


def test_a_stopped_dump_goes_on_where_it_stopped(tmp_path, tiny_keyframes, vocabulary):
    with pytest.raises(KeyboardInterrupt):
        dump_keyframes(Halves(fail_after=9), tiny_keyframes, tmp_path, vocabulary)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    assert not list(tmp_path.glob(".*"))
    teacher = Halves()
    result = dump_keyframes(teacher, tiny_keyframes, tmp_path, vocabulary)
    assert (result.written, result.found, teacher.images) == (3, 1, 18)
    assert dump_keyframes(Halves(), tiny_keyframes, tmp_path, vocabulary) == (0, 4, 0)


def test_a_folder_of_another_teacher_is_not_written_to(tmp_path, tiny_keyframes, vocabulary):
    dump_keyframes(Halves(), tiny_keyframes[:1], tmp_path, vocabulary)
    with pytest.raises(DumpError, match="holds dumps of"):
        dump_keyframes(Halves(words=175), tiny_keyframes, tmp_path, vocabulary)
    assert len(list(tmp_path.glob("*.npz"))) == 1


@pytest.fixture
def keyframes(tmp_path):
    root = write_dataset(tmp_path / "data", keyframes=1)
    return NuScenesTables(root, "v1.0-mini").keyframes("mini_train")


def test_missing_images_are_found_before_the_first_is_segmented(tmp_path, keyframes, vocabulary):
    keyframes[0].cameras[3].path.unlink()
    teacher = Halves()
    with pytest.raises(FileNotFoundError, match="1 of 6 camera images are missing"):
        dump_keyframes(teacher, keyframes, tmp_path / "dumps", vocabulary)
    assert teacher.images == 0


def test_a_truncated_image_is_named(tmp_path, keyframes, vocabulary):
    path = keyframes[0].cameras[1].path
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=rf"{path.name}: corrupt or truncated image"):
        dump_keyframes(Halves(), keyframes, tmp_path / "dumps", vocabulary)


def test_an_image_of_another_size_than_the_table_says_is_refused(tmp_path, vocabulary):
    def wider(tables):
        for record in tables["sample_data"]:
            record["width"] = 1600

    root = write_dataset(tmp_path / "data", keyframes=1, change=wider)
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    with pytest.raises(ValueError, match=r"\(90, 160\) pixels .* sample_data says \(90, 1600\)"):
        dump_keyframes(Halves(), keyframes, tmp_path / "dumps", vocabulary)


def test_images_of_different_sizes_are_refused(tmp_path, vocabulary):
    def odd(tables):
        tables["sample_data"][3]["width"] = 159

    root = write_dataset(tmp_path / "data", keyframes=1, change=odd)
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    with pytest.raises(ValueError, match=r"images of one size, found \[\(90, 159\), \(90, 160\)\]"):
        dump_keyframes(Halves(), keyframes, tmp_path / "dumps", vocabulary)


# ---- script -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "dump_teacher.py"
    spec = importlib.util.spec_from_file_location("dump_teacher", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(root: Path, output: Path, **changes: str) -> list[str]:
    options = {"teacher": "slic", "data": str(root), "version": "v1.0-mini"}
    options |= {"split": "mini_val", "output": str(output)} | changes
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def test_the_script_dumps_says_what_it_wrote_and_what_comes_next(
    tmp_path, tiny_root, script, capsys
):
    assert script.main(arguments(tiny_root, tmp_path)) == 0
    out = capsys.readouterr().out
    assert "2 keyframes (12 images) to do" in out
    assert "Wrote 2 keyframes" in out
    assert "scripts/train.py --config configs/tmp_slic.py" in out
    # Two keyframes do not fill the recipe's batch of 16.
    assert "--devices=1 --config.batch_size=2 --config.total_steps=400\n" in out
    folder = DumpFolder(tmp_path)
    assert folder.teacher == "slic"
    assert folder.text_embeddings is None
    keyframes = NuScenesTables(tiny_root, "v1.0-mini").keyframes("mini_val")
    folder.check(keyframes, contents=True)
    assert script.main(arguments(tiny_root, tmp_path)) == 0
    assert "Wrote 0 keyframes (0 B)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "/nowhere"}, "To get nuScenes: register"),
        ({"split": "valid"}, "unknown split 'valid'"),
        ({"vocabulary": "klingon"}, "no vocabulary of that name"),
    ],
)
def test_the_script_ends_with_one_clear_message(
    tmp_path, tiny_root, script, capsys, changes, message
):
    assert script.main(arguments(tiny_root, tmp_path / "dumps", **changes)) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert not (tmp_path / "dumps").exists()


def test_the_script_can_be_stopped(tmp_path, tiny_root, script, capsys, monkeypatch):
    monkeypatch.setattr(script, "create_teacher", lambda *_: Halves(fail_after=7))
    assert script.main(arguments(tiny_root, tmp_path)) == 130
    assert "The same command goes on from here" in capsys.readouterr().err
