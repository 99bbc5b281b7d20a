"""Dumping a teacher over a dataset, from Python and by the script."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_dataset import HEIGHT, WIDTH, write_dataset
from uov_jax.datasets.keyframe import CAMERAS, Rig
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps import write as dumping
from uov_jax.dumps.file import DumpError
from uov_jax.dumps.folder import DumpFolder
from uov_jax.dumps.write import dump_keyframes, read_image
from uov_jax.errors import InputError
from uov_jax.input.tri_modal import TriModalSource
from uov_jax.job_array import Shard
from uov_jax.teachers import ImageMasks
from uov_jax.teachers.teacher import require_rgb


class Halves:
    """A teacher of two masks, the left and the right half; counts what it is asked."""

    name = "halves"
    weights_hash = "h" * 64
    embedding_size = 3
    masks_per_image = 2
    mask_bytes = None

    def __init__(self, words: int = 0, fail_after: int = 10**9) -> None:
        self.text_embeddings = np.eye(words, 3) + 1 if words else None
        self.settings: dict[str, bool] = {}
        self.images = 0
        self.fail_after = fail_after

    def segment(self, images):
        return [self._segment(image) for image in images]

    def _segment(self, image):
        self.images += 1
        if self.images > self.fail_after:
            raise KeyboardInterrupt
        masks = np.ones(image.shape[:2], np.uint16)
        masks[:, image.shape[1] // 2 :] = 2
        words = np.array([3, 4]) if self.text_embeddings is not None else np.array([-1, -1])
        return ImageMasks(masks, words, image[:2, 0].astype(np.float32))


def test_every_image_is_segmented_once(tmp_path, tiny_keyframes, vocabulary):
    said: list[str] = []
    teacher = Halves(words=175)
    result = dump_keyframes(teacher, tiny_keyframes, tmp_path, vocabulary, said.append)
    assert (result.written, result.found) == (4, 0)
    assert teacher.images == 24
    assert "4 keyframes (24 images) to do, 0 done already. Expected size: " in said[0]
    folder = DumpFolder(tmp_path, vocabulary)
    assert folder.manifest.image_sizes == dict.fromkeys(CAMERAS, (HEIGHT, WIDTH))
    assert folder.text_embeddings.shape == (175, 3)
    assert result.bytes == sum(p.stat().st_size for p in tmp_path.glob("scene*.npz"))
    dump = folder.read(tiny_keyframes[2])
    for camera, view in zip(dump.cameras, tiny_keyframes[2].cameras, strict=True):
        assert camera.token == view.token
        expected = read_image(view.path)[:2, 0]
        np.testing.assert_array_equal(camera.embeddings, expected)
    TriModalSource(tiny_keyframes, folder).sample(0, np.random.default_rng(0))


def test_a_stopped_dump_goes_on_where_it_stopped(tmp_path, tiny_keyframes, vocabulary):
    with pytest.raises(KeyboardInterrupt):
        dump_keyframes(Halves(fail_after=9), tiny_keyframes, tmp_path, vocabulary)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    assert not list(tmp_path.glob(".*"))
    teacher = Halves()
    result = dump_keyframes(teacher, tiny_keyframes, tmp_path, vocabulary)
    assert (result.written, result.found, teacher.images) == (3, 1, 18)
    assert dump_keyframes(Halves(), tiny_keyframes, tmp_path, vocabulary)[:4] == (0, 4, 0, ())


def test_a_folder_of_another_teacher_is_not_written_to(tmp_path, tiny_keyframes, vocabulary):
    dump_keyframes(Halves(), tiny_keyframes[:1], tmp_path, vocabulary)
    with pytest.raises(DumpError, match="holds teacher dumps of"):
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


def test_a_failing_image_is_reported_and_leaves_the_rest_alone(
    tmp_path, tiny_keyframes, vocabulary, monkeypatch
):
    broken = tiny_keyframes[1].cameras[2].path
    said: list[str] = []

    def unreadable(path: Path) -> np.ndarray:
        if path == broken:
            raise ValueError(f"{path}: corrupt or truncated image: x")
        return read_image(path)

    monkeypatch.setattr(dumping, "read_image", unreadable)
    result = dump_keyframes(Halves(), tiny_keyframes, tmp_path, vocabulary, said.append)
    assert (result.written, result.found) == (3, 0)
    (failure,) = result.failed
    assert failure.keyframe.token == tiny_keyframes[1].token
    assert failure.reason == f"{broken}: corrupt or truncated image: x"
    assert sum(f"{tiny_keyframes[1].token} failed: {broken}" in line for line in said) == 2
    assert sorted(path.stem for path in tmp_path.glob("scene*.npz")) == sorted(
        set(tiny_keyframes.tokens()) - {tiny_keyframes[1].token}
    )
    monkeypatch.undo()
    again = dump_keyframes(Halves(), tiny_keyframes, tmp_path, vocabulary)
    assert (again.written, again.found, again.failed) == (1, 3, ())


class OutOfMemory(Halves):
    """A teacher that can do two images together, and fails once in a while."""

    def segment(self, images):
        if len(images) > 2:
            raise RuntimeError("CUDA out of memory")
        return super().segment(images)


def test_what_fails_in_a_batch_is_tried_again_image_by_image(tmp_path, tiny_keyframes, vocabulary):
    said: list[str] = []
    result = dump_keyframes(
        OutOfMemory(), tiny_keyframes, tmp_path, vocabulary, said.append, batch=6
    )
    assert (result.written, result.failed) == (4, ())
    assert "Trying 4 keyframes again, the first one is scene-0061-sample-0" in said


def test_batches_give_the_same_dumps(tmp_path, tiny_keyframes, vocabulary):
    for batch in (1, 4):
        dump_keyframes(Halves(), tiny_keyframes, tmp_path / str(batch), vocabulary, batch=batch)
    assert contents(tmp_path / "1") == contents(tmp_path / "4")


def test_too_many_failures_in_a_row_end_the_run(tmp_path, vocabulary):
    root = write_dataset(tmp_path / "data", keyframes=20)
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    for keyframe in keyframes[2:18]:
        keyframe.cameras[0].path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"10 keyframes failed one after the other, .*jpg"):
        dump_keyframes(Halves(), keyframes, tmp_path / "dumps", vocabulary)


def test_no_space_is_not_taken_for_a_failing_image(
    tmp_path, tiny_keyframes, vocabulary, monkeypatch
):
    def full(self: DumpFolder, dump: object) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(DumpFolder, "write", full)
    with pytest.raises(OSError, match="no space left"):
        dump_keyframes(Halves(), tiny_keyframes, tmp_path, vocabulary)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shares_together_give_the_same_files_as_one_run(tmp_path, tiny_keyframes, vocabulary):
    dump_keyframes(Halves(words=175), tiny_keyframes, tmp_path / "one", vocabulary)
    for number in (2, 1):
        share = Shard(number, 2).of(tiny_keyframes)
        dump_keyframes(Halves(words=175), share, tmp_path / "two", vocabulary)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_half_written_files_of_a_killed_run_are_removed(tmp_path, tiny_keyframes, vocabulary):
    dump_keyframes(Halves(), tiny_keyframes[:1], tmp_path, vocabulary)
    own = tmp_path / f".{tiny_keyframes[1].token}.4711.tmp.npz"
    others = tmp_path / f".{tiny_keyframes[2].token}.4712.tmp.npz"
    for path in (own, others):
        path.write_bytes(b"half")
    dump_keyframes(Halves(), tiny_keyframes[:2], tmp_path, vocabulary)
    assert not own.exists()
    assert others.exists()


KILLED = """
import sys
from tests.dumps.test_write import Halves
from uov_jax.dumps.write import dump_keyframes
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.vocabulary import load_vocabulary

keyframes = NuScenesTables(sys.argv[1], "v1.0-mini").keyframes("mini_train")
dump_keyframes(Halves(words=175), keyframes, sys.argv[2], load_vocabulary(), lambda line: None)
"""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_dump_killed_at_a_random_moment_goes_on_to_the_same_files(tmp_path, vocabulary, seed):
    root = write_dataset(tmp_path / "data", keyframes=40)
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    dump_keyframes(Halves(words=175), keyframes, tmp_path / "whole", vocabulary)
    output = tmp_path / "killed"
    program = [sys.executable, "-c", KILLED, str(root), str(output)]
    stop_at = int(np.random.default_rng(seed).integers(1, 39))
    with subprocess.Popen(program, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as run:
        while run.poll() is None and len(list(output.glob("scene*.npz"))) < stop_at:
            time.sleep(0.001)
        run.kill()
    assert 0 < len(list(output.glob("scene*.npz"))) < 40
    subprocess.run(program, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    assert contents(output) == contents(tmp_path / "whole")


def test_an_image_of_another_size_than_the_table_says_is_refused(tmp_path, vocabulary):
    def wider(tables):
        for record in tables["sample_data"]:
            record["width"] = 1600

    root = write_dataset(tmp_path / "data", keyframes=1, change=wider)
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    (failure,) = dump_keyframes(Halves(), keyframes, tmp_path / "dumps", vocabulary).failed
    assert (
        "(90, 160) pixels (height, width), the table sample_data says (90, 1600)" in failure.reason
    )


def test_images_of_one_camera_in_two_sizes_are_refused(tmp_path, vocabulary):
    def odd(tables):
        tables["sample_data"][-4]["width"] = 159

    root = write_dataset(tmp_path / "data", scenes=("scene-0061",), change=odd)
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    message = (
        r"sample-1-CAM_BACK.jpg: \(90, 159\) pixels .*, but earlier images of CAM_BACK have "
        r"\(90, 160\): expected one size for each camera"
    )
    with pytest.raises(InputError, match=message):
        dump_keyframes(Halves(), keyframes, tmp_path / "dumps", vocabulary)
    assert not (tmp_path / "dumps").exists()


class OneSize(Halves):
    """A teacher that refuses images of two sizes together, as those with networks do."""

    def __init__(self, words: int = 0) -> None:
        super().__init__(words)
        self.asked: list[list[tuple[int, ...]]] = []

    def segment(self, images):
        require_rgb(images)
        self.asked.append([image.shape[:2] for image in images])
        return super().segment(images)


def test_images_of_two_sizes_are_shown_in_batches_of_one(tmp_path, vocabulary):
    sizes = {"CAM_A": (90, 160), "CAM_B": (60, 80), "CAM_C": (90, 160), "CAM_D": (90, 160)}
    root = write_dataset(tmp_path / "data", keyframes=1, cameras=sizes)
    tables = NuScenesTables(root, "v1.0-mini", Rig(cameras=tuple(sizes)))
    keyframes = tables.keyframes("mini_train")
    teacher = OneSize()
    result = dump_keyframes(teacher, keyframes, tmp_path / "two", vocabulary, batch=2)
    assert (result.written, result.failed) == (1, ())
    assert teacher.asked == [[(90, 160)] * 2, [(90, 160)], [(60, 80)]]
    folder = DumpFolder(tmp_path / "two")
    assert folder.manifest.image_sizes == sizes
    for camera, view in zip(folder.read(keyframes[0]).cameras, keyframes[0].cameras, strict=True):
        assert (camera.channel, camera.token) == (view.channel, view.token)
        assert camera.image_size == sizes[view.channel]
        np.testing.assert_array_equal(camera.embeddings, read_image(view.path)[:2, 0])
    dump_keyframes(Halves(), keyframes, tmp_path / "one", vocabulary)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_the_expected_size_counts_the_rigs_own_images(tmp_path, vocabulary):
    expected = []
    for number in (1, 17):
        sizes = {f"CAM_{i}": (90, 160) for i in range(number)}
        root = write_dataset(tmp_path / f"{number}", keyframes=1, cameras=sizes)
        tables = NuScenesTables(root, "v1.0-mini", Rig(cameras=tuple(sizes)))
        said: list[str] = []
        dumps = tmp_path / f"dumps-{number}"
        dump_keyframes(Halves(), tables.keyframes("mini_train"), dumps, vocabulary, said.append)
        found = re.search(r"Expected size: ([\d.]+) (\w+)", said[0])
        assert found is not None
        expected.append(float(found[1]) * {"Bytes": 1, "kB": 1000}[found[2]])
        assert f"(1 keyframes ({number} images)" in f"({said[0].partition(': ')[2]}"
    image = 4190 / 10 + 2 * (1.8 * 3 + 2)
    assert expected == pytest.approx([2000 + image, 2000 + 17 * image], rel=0.02)
