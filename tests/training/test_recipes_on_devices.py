"""Every published recipe on 1, 2, 4 and 8 devices: it takes a step, or says how many can."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.datasets.test_semantickitti import write_scan
from tests.tasks.test_room_stages import write_labels
from tests.tiny_dataset import write_dataset, write_dumps
from tests.tiny_rooms import write_features, write_rooms
from tests.training.test_parallel import HERE, finish, start
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.superpoints.make import make_superpoints, prepare
from uov_jax.vocabulary import load_vocabulary

# By recipe, the numbers among 1, 2, 4 and 8 that take a step.
WORKS = {
    "tmp_san.py": (1, 2, 4),
    "tmp_san.py:slidr": (1, 2, 4),
    "tmp_fcclip.py": (1, 2, 4),
    "tmp_fcclip.py:slidr": (1, 2, 4),
    "tmp_catseg.py": (1, 2, 4),
    "tmp_catseg.py:slidr": (1, 2, 4),
    "tmp_slic.py": (1, 2, 4),
    "annotation_free_san.py": (1, 2, 4, 8),
    "annotation_free_fcclip.py": (1, 2, 4, 8),
    "annotation_free_catseg.py": (1, 2, 4, 8),
    "finetune_nuscenes.py": (1, 2, 4, 8),
    "linear_probing_nuscenes.py": (1, 2, 4, 8),
    "finetune_semantickitti.py": (1, 2),
    "ess_scannet.py": (1, 2, 4, 8),
    "ess_scannet.py:paper": (1, 2, 4, 8),
    "ess_s3dis.py": (1, 2, 4, 8),
    "ess_s3dis.py:paper": (1, 2, 4, 8),
    "esg_scannet.py": (1,),
    "esg_scannet.py:14a": (1,),
    "esg_scannet.py:plain": (1,),
    "esg_s3dis.py": (1,),
    "esg_s3dis.py:14a": (1,),
    "esg_s3dis.py:plain": (1,),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one of every dataset, as many samples each as the largest batch has."""
    folder = tmp_path_factory.mktemp("data")
    vocabulary = load_vocabulary()
    root = write_dataset(folder / "nuscenes", scenes=("scene-0061",), keyframes=16, points=300)
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    write_dumps(folder / "dumps", keyframes, vocabulary)
    dumps = DumpFolder(folder / "dumps", vocabulary)
    labels = prepare(keyframes, dumps, vocabulary, folder / "labels", "native")
    list(make_superpoints(keyframes, dumps, vocabulary, labels))
    for number in range(10):
        write_scan(folder / "kitti", "00", number, points=300)
    words = load_vocabulary("scannet")
    splits = {"train": [f"scene{number:04}_00" for number in range(24)]}
    store = write_rooms(folder / "store", words, splits=splits, points=200)
    write_features(folder / "features", store, words, embedding_size=16, length=3.0)
    write_labels(folder / "room_labels", folder)
    return folder


def test_no_recipe_is_left_out() -> None:
    files = {path.name for path in (HERE.parents[1] / "configs").glob("*.py")} - {"common.py"}
    assert {recipe.partition(":")[0] for recipe in WORKS} == files


@pytest.mark.slow
def test_every_recipe_takes_a_step_or_names_the_counts_that_do(folder: Path) -> None:
    (output,) = finish(start("recipes_on_devices.py", str(folder), *WORKS, devices=8), timeout=3600)
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert {line["recipe"]: line["recipe"] in WORKS for line in lines} == dict.fromkeys(WORKS, True)
    for line in lines:
        recipe, found = line["recipe"], line["found"]
        works = tuple(int(count) for count, said in found.items() if isinstance(said, float))
        assert works == WORKS[recipe], (recipe, found)
        for count in {1, 2, 4, 8} - set(works):
            said = found[str(count)]
            assert said.startswith(f"{count} devices cannot share out "), recipe
            named = re.search(r": ([\d, or]+) can \(--devices\)", said)
            assert named is not None, said
            counts = {int(number) for number in re.findall(r"\d+", named[1])}
            assert counts & {1, 2, 4, 8} == set(works), said
            assert re.search(r"--config\.\w+=|or a config\.batch_size that", said), said
