"""Evaluation of rooms: every column against what is made of the files by hand."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from tests.datasets.test_room_labels import write_table
from tests.tasks.room_recipe import VOXELS, Pointwise, PointwiseRooms, room_config
from tests.tiny_rooms import write_features, write_rooms
from uov_jax.checkpoints import state
from uov_jax.checkpoints.files import save_state_dict_file
from uov_jax.checkpoints.run import RunCheckpoints
from uov_jax.checkpoints.state_dict import model_to_state_dict
from uov_jax.datasets.rooms import RoomError, RoomStore
from uov_jax.errors import InputError, MissingFileError, NotFiniteError
from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.evaluate import EvaluationResult, EvaluationSettings, evaluate
from uov_jax.evaluation.progress import EvaluationProgressError
from uov_jax.evaluation.scoring import BY_FEW, BY_MANY, BY_NONE, EVERYWHERE, SEEN
from uov_jax.fusion.features import FUSED as FUSED_KIND
from uov_jax.fusion.features import OPENSCENE, SPECIALISED, FeatureFolder, FeatureWriter
from uov_jax.pictures.judged import JudgedPictures
from uov_jax.quirks import HALF_SCORES
from uov_jax.vocabulary import load_vocabulary

QUIET = EvaluationSettings(pictures=0, workers=1)
NETWORK, ENSEMBLE, FUSED = "net", "net + fused 2D", "fused 2D"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `rooms` and `features` of them."""
    root = tmp_path_factory.mktemp("rooms")
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(root / "rooms", vocabulary, points=2000)
    write_features(root / "features", store, vocabulary, noise=1.0)
    return root


@pytest.fixture
def config(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ConfigDict:
    return room_config(folder, tmp_path_factory.getbasetemp() / "compilation_cache")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = model_to_state_dict(Pointwise(nnx.Rngs(3)))
    return save_state_dict_file(tmp_path_factory.mktemp("net") / "net.npz", tensors, VOXELS)


def judge(
    config: ConfigDict, networks: dict[str, Path], directory: Path, **settings: Any
) -> EvaluationResult:
    chosen = dataclasses.replace(QUIET, **settings)
    split = PointwiseRooms(config, config.data.val_split)
    return evaluate(split, networks, directory, chosen, config, JudgedPictures())


def write_run(directory: Path, identity: dict[str, str]) -> None:
    """A run with the pointwise network."""
    _, parameters, statistics = state.split(Pointwise(nnx.Rngs(3)))
    data = {"voxel_size": [0.1] * 3, "cylindrical": False}
    checkpoints = RunCheckpoints(directory, {"task": "esg", "data": data}, identity)
    checkpoints.save(0, {"parameters": parameters, "statistics": statistics})
    checkpoints.close()


def by_hand(config: ConfigDict, network: Path, folder: Path) -> dict[str, np.ndarray]:
    """Classes of the one room of `val`, in float64; a network without neighbours needs no voxels.

    But voxels keep their first point, so each must hold one point alone.
    """
    vocabulary = load_vocabulary("scannet")
    room = RoomStore(config.data.root).room("scene0002_00")
    features = FeatureFolder(folder / "features")
    text = features.text_embeddings.astype(np.float64)
    with np.load(network) as file:
        (kernel,) = (file[name] for name in file.files if file[name].ndim == 2)
    colors = room.colors.astype(np.float32) / np.float32(127.5) - np.float32(1)
    points = np.sin(colors.astype(np.float64) @ kernel.astype(np.float64))
    fused = features.room(room.name, len(room))
    images = np.zeros_like(points)
    images[fused.visible] = fused.features
    best = [
        (f / (np.linalg.norm(f, axis=1, keepdims=True) + 1e-5) @ text.T).max(axis=1)
        for f in (points, images)
    ]
    seen = fused.visible
    chosen = np.where((seen & (best[1] > best[0]))[:, None], images, points)
    word_class = vocabulary.word_eval_class.astype(np.uint8)

    def classes(rows: np.ndarray) -> np.ndarray:
        return word_class[(rows @ text.T).argmax(axis=1)]

    return {
        NETWORK: classes(points),
        ENSEMBLE: classes(chosen),
        FUSED: np.where(seen, classes(images), 0),
        "views": np.asarray(fused.views),
    }


def test_views_that_nobody_counted_make_no_columns(
    tmp_path: Path, config: ConfigDict, network: Path, folder: Path
) -> None:
    """Published features say that a point was seen, not how often; nor do those made of them."""
    vocabulary = load_vocabulary("scannet")
    store = RoomStore(folder / "rooms")
    for kind in (FUSED_KIND, SPECIALISED):
        features = tmp_path / kind
        write_features(features, store, vocabulary, teacher=OPENSCENE, kind=kind)
        config.data.features = str(features)
        found = judge(config, {NETWORK: network}, tmp_path / f"judged-{kind}").scores
        for column in found.columns.values():
            assert list(column.columns) == [EVERYWHERE, SEEN, BY_NONE]
        table = (tmp_path / f"judged-{kind}" / "subsets" / "net.csv").read_text("utf-8")
        assert table.splitlines()[0] == f"class,{EVERYWHERE},{SEEN},{BY_NONE}"


def test_every_column_is_what_its_definition_says(
    tmp_path: Path, config: ConfigDict, network: Path, folder: Path, capsys: Any
) -> None:
    # So that no two points share a voxel.
    config.data.update(voxel_size=(0.0005,) * 3, voxels=(49_152, 49_152))
    voxels = dict(VOXELS, voxel_size=0.0005)
    same = save_state_dict_file(
        tmp_path / "net.npz", model_to_state_dict(Pointwise(nnx.Rngs(3))), voxels
    )
    result = judge(config, {NETWORK: same}, tmp_path / "out", predictions=True)
    assert list(result.scores.columns) == [NETWORK, ENSEMBLE, FUSED]
    expected = by_hand(config, same, folder)
    store = RoomStore(config.data.root)
    room = store.room("scene0002_00")
    assert room.labels is not None
    form = PointwiseRooms(config, "val").label_format
    for name in (NETWORK, ENSEMBLE, FUSED):
        stem = name.replace(" + ", "_").replace(" ", "_")
        path = tmp_path / "out" / "predictions" / stem / "scene0002_00.txt"
        found = form.read(path, len(room))
        np.testing.assert_array_equal(found, expected[name])
        for subset, mask in (
            (BY_MANY, expected["views"] > 1),
            (BY_FEW, expected["views"] < 2),
            (BY_NONE, expected["views"] == 0),
        ):
            matrix = ConfusionMatrix(len(store.classes), store.classes)
            matrix.add(room.labels[mask], expected[name][mask])
            assert matrix.points
            np.testing.assert_array_equal(
                result.scores.columns[name].matrices[subset].counts, matrix.counts
            )
    out = capsys.readouterr().out
    assert "1 network(s) on 1 of 1 rooms" in out
    assert "mean IoU, as published" in out
    assert (tmp_path / "out" / "scores.txt").read_text().strip() in out
    assert BY_FEW in (tmp_path / "out" / "subsets" / "net.txt").read_text()


def test_repeats_are_summed_and_depend_on_the_seed_alone(config: ConfigDict, network: Path) -> None:
    """Voxels of 10 cm hold several points, so what they keep depends on how the room is turned."""

    def columns(repeats: int, seed: int = 0) -> list[np.ndarray]:
        config.run.repeats, config.seed = repeats, seed
        split = PointwiseRooms(config, "val")
        sample = split.sample(0)
        model: Any = Pointwise(nnx.Rngs(3))
        asked = []

        def ask(inputs: Any) -> Any:
            asked.append(np.asarray(split.classify(model(**inputs))))
            return asked[-1]

        found = split.judge(ask, sample).columns
        assert len(asked) == max(1, repeats)
        total = sum(
            scores[rows, :-1] for scores, rows in zip(asked, sample["inverse"], strict=True)
        )
        best = np.asarray(total).argmax(axis=1)
        np.testing.assert_array_equal(found[""], split.vocabulary.word_eval_class[best])
        return list(found.values())

    five, again, other, plain = columns(5), columns(5), columns(5, seed=1), columns(0)
    np.testing.assert_array_equal(five, again)
    assert not np.array_equal(five[0], other[0])
    assert not np.array_equal(five[0], plain[0])
    np.testing.assert_array_equal(plain, columns(0, seed=1))


def test_half_precision_is_a_quirk(config: ConfigDict) -> None:
    config.reference_quirks = (HALF_SCORES,)
    half = PointwiseRooms(config, "val").sample(0)["fused"]
    config.reference_quirks = ()
    full = PointwiseRooms(config, "val").sample(0)["fused"]
    assert not np.array_equal(half, full)
    # Words and products of up to 20 in half precision.
    np.testing.assert_allclose(half, full, rtol=2e-3, atol=2e-2)


def test_features_are_judged_without_any_network(
    tmp_path: Path, config: ConfigDict, folder: Path
) -> None:
    vocabulary = load_vocabulary("scannet")
    store = RoomStore(config.data.root, vocabulary)
    write_features(tmp_path / "better", store, vocabulary, noise=0.5, kind=SPECIALISED)
    fused = judge(config, {}, tmp_path / "fused")
    config.data.features = str(tmp_path / "better")
    better = judge(config, {}, tmp_path / "specialised")
    assert list(fused.scores.columns) == [FUSED]
    assert list(better.scores.columns) == ["specialised 2D"]
    scores = [
        next(iter(result.scores.columns.values())).everywhere.mean_iou("untrue")
        for result in (fused, better)
    ]
    assert scores[1] > scores[0] > 0.1


def test_without_features_there_is_the_network_alone(
    tmp_path: Path, config: ConfigDict, network: Path, folder: Path
) -> None:
    config.data.features, config.data.text = "", str(folder / "features")
    result = judge(config, {NETWORK: network}, tmp_path)
    assert list(result.scores.columns) == [NETWORK]
    assert list(result.scores.columns[NETWORK].columns) == ["all points"]
    with pytest.raises(InputError, match="nothing to judge: give a checkpoint"):
        judge(config, {}, tmp_path / "none")


def test_it_goes_on_where_it_stopped(tmp_path: Path, config: ConfigDict, network: Path) -> None:
    config.data.val_split = "train"
    whole = judge(config, {NETWORK: network}, tmp_path / "whole")
    split = PointwiseRooms(config, "train")
    sample = split.sample
    split.sample = lambda index: sample(index) if index == 0 else 1 / 0  # type: ignore[method-assign]
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        evaluate(split, {NETWORK: network}, out, QUIET, config, JudgedPictures())
    again = judge(config, {NETWORK: network}, out)
    assert again.clock.sweeps < 2
    for name, column in whole.scores.columns.items():
        np.testing.assert_array_equal(column.counts(), again.scores.columns[name].counts())


def test_a_finished_evaluation_is_of_its_words_rooms_and_features_alone(
    tmp_path: Path, config: ConfigDict, network: Path, folder: Path
) -> None:
    """What lies at the same paths may be other data; the same data may be written again."""
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    config.data.update(root=str(mine / "rooms"), features=str(mine / "features"))
    config.data.text = str(mine / "words.npz")
    text_file, room = mine / "features" / "text_embeddings.npz", "scene0002_00"
    shutil.copy(text_file, mine / "words.npz")
    labels = mine / "rooms" / "rooms" / room / "labels.npy"
    judge(config, {NETWORK: network}, tmp_path / "out")
    for path in (mine / "words.npz", labels):
        path.write_bytes(path.read_bytes())

    def given_again() -> bool:
        split = PointwiseRooms(config, config.data.val_split)
        split.judge = lambda *arguments: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        networks = {NETWORK: network}
        return evaluate(split, networks, tmp_path / "out", QUIET, config, JudgedPictures()).finished

    assert given_again()

    def refused(name: str) -> None:
        with pytest.raises(EvaluationProgressError, match=f"an evaluation with {name} = "):
            judge(config, {NETWORK: network}, tmp_path / "out")

    words = np.load(mine / "words.npz")["embeddings"]
    np.savez(mine / "words.npz", embeddings=words[::-1])
    refused("words")
    shutil.copy(text_file, mine / "words.npz")
    before = labels.read_bytes()
    np.save(labels, np.load(labels)[::-1])
    refused("rooms")
    labels.write_bytes(before)
    assert given_again()
    store = RoomStore(mine / "rooms")
    points = store.facts(room).points
    features = FeatureFolder(mine / "features")
    found = features.room(room, points)
    views, rows = np.array(found.views), np.array(found.features)
    rows[5] += 1
    FeatureWriter(features.root, features.manifest, words).write(room, views, rows)
    refused("features")


def test_the_words_of_another_dataset_judge_the_same_network(
    tmp_path: Path, config: ConfigDict, network: Path
) -> None:
    """A network of ScanNet's teacher by S3DIS's 13 classes on rooms of S3DIS."""
    offices = load_vocabulary("s3dis")
    store = write_rooms(tmp_path / "rooms", offices, points=2000, dataset="s3dis")
    text = write_features(tmp_path / "words", store, offices, rooms=[])
    config.data.update(root=str(tmp_path / "rooms"), features="", text=str(text.root))
    with pytest.raises(RoomError, match="of the vocabulary 's3dis', not of 'scannet'"):
        judge(config, {NETWORK: network}, tmp_path / "wrong")
    config.data.vocabulary = "s3dis"
    result = judge(config, {NETWORK: network}, tmp_path / "out")
    matrix = result.scores.columns[NETWORK].everywhere
    assert matrix.names == offices.eval_classes
    assert matrix.points
    assert not matrix.counts[:, 0].any()
    # The file alone will do.
    config.data.text = str(text.root / "text_embeddings.npz")
    other = judge(config, {NETWORK: network}, tmp_path / "file")
    np.testing.assert_array_equal(other.scores.columns[NETWORK].everywhere.counts, matrix.counts)


def test_what_lies_in_another_space_is_refused_by_name(
    tmp_path: Path, config: ConfigDict, network: Path, folder: Path
) -> None:
    vocabulary = load_vocabulary("scannet")
    store = RoomStore(config.data.root, vocabulary)
    other = write_features(tmp_path / "other", store, vocabulary, teacher="other", rooms=[])
    config.data.text = str(other.root)
    with pytest.raises(
        InputError, match="features of the teacher 'tiny', but the words of .* 'other'"
    ):
        PointwiseRooms(config, "val")
    config.data.text = ""
    write_run(tmp_path / "san", {"teacher": "san", "embedding_size": "16"})
    with pytest.raises(InputError, match="features of the teacher 'san', but the words of"):
        judge(config, {NETWORK: tmp_path / "san"}, tmp_path / "out")
    write_run(tmp_path / "large", {"teacher": "tiny", "embedding_size": "512"})
    with pytest.raises(InputError, match="features of 512 numbers, the words of"):
        judge(config, {NETWORK: tmp_path / "large"}, tmp_path / "out")
    write_run(tmp_path / "same", {"teacher": "tiny", "embedding_size": "16"})
    assert judge(config, {NETWORK: tmp_path / "same"}, tmp_path / "out").finished


def test_mistakes_are_named(
    tmp_path: Path, config: ConfigDict, network: Path, folder: Path, capsys: Any
) -> None:
    vocabulary = load_vocabulary("scannet")
    store = RoomStore(config.data.root, vocabulary)
    good = config.data.features
    with pytest.raises(InputError, match="no split 'test' in this store"):
        PointwiseRooms(config, "test")
    config.data.features = str(
        write_features(tmp_path / "few", store, vocabulary, rooms=["scene0000_00"]).root
    )
    with pytest.raises(MissingFileError, match="1 of 2 rooms have no features"):
        PointwiseRooms(config, "train")
    assert PointwiseRooms(config, "val").given == ()
    assert "has no features of the rooms of 'val'" in capsys.readouterr().out
    small = write_features(tmp_path / "small", store, vocabulary, embedding_size=8)
    config.data.update(features=str(small.root), text=good)
    with pytest.raises(InputError, match="features of 8 numbers, the words of .* have 16"):
        PointwiseRooms(config, "val")
    mine = write_rooms(tmp_path / "mine", vocabulary, dataset="mine")
    config.data.update(features=good, text="", root=str(mine.root))
    with pytest.raises(InputError, match="features of rooms of 'scannet'"):
        PointwiseRooms(config, "val")
    config.data.update(root=str(folder / "rooms"), features="")
    with pytest.raises(InputError, match="there are no words to judge by"):
        PointwiseRooms(config, "val")
    config.data.text = str(tmp_path / "words.npz")
    with pytest.raises(MissingFileError, match="no file of embeddings of words there"):
        PointwiseRooms(config, "val")
    (tmp_path / "words.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a file with embeddings of words"):
        PointwiseRooms(config, "val")
    refusals = {(3, 4): r"20 words, any .* found \[3, 4\]", (3,): r"found \[3\]"}
    for shape, message in refusals.items():
        np.savez(tmp_path / "words.npz", embeddings=np.zeros(shape, np.float32))
        with pytest.raises(InputError, match=message):
            PointwiseRooms(config, "val")
    config.data.update(features=good, text="")
    config.run.repeats = -1
    with pytest.raises(InputError, match="config.run.repeats: at least 0"):
        PointwiseRooms(config, "val")
    config.run.repeats = 1
    with pytest.raises(InputError, match="AFI is of sweeps, not of rooms"):
        judge(config, {NETWORK: network}, tmp_path / "out", afi=(None,))


def test_every_column_of_a_room_is_drawn(tmp_path: Path, config: ConfigDict, network: Path) -> None:
    judge(config, {NETWORK: network}, tmp_path, pictures=1)
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert drawn == [
        "scene0002_00_fused_2D.png",
        "scene0002_00_net.png",
        "scene0002_00_net_fused_2D.png",
    ]
    with Image.open(tmp_path / "pictures" / drawn[0]) as image:
        assert image.width == 4 * 624 - 4  # colours, truth, prediction, errors
    assert len(list((tmp_path / "confusion").glob("*.png"))) == 3


def test_outputs_that_are_not_finite_end_it(tmp_path: Path, config: ConfigDict) -> None:
    tensors = model_to_state_dict(Pointwise(nnx.Rngs(3)))
    split = PointwiseRooms(config, "val")
    found = split.judge(lambda inputs: np.full((2560, 21), np.nan, np.float32), split.sample(0))
    assert (found.columns[""] == 255).all()
    path = save_state_dict_file(tmp_path / "net.npz", tensors, VOXELS)

    class Broken(PointwiseRooms):
        def judge(self, ask: Any, sample: Any) -> Any:
            return super().judge(lambda inputs: np.asarray(ask(inputs)) * np.nan, sample)

    with pytest.raises(NotFiniteError, match="net: outputs of 2,050 of the 2,050 points"):
        evaluate(Broken(config, "val"), {NETWORK: path}, tmp_path, QUIET, config, JudgedPictures())


def test_a_submission_is_a_file_a_room_in_a_zip(
    tmp_path: Path, config: ConfigDict, network: Path
) -> None:
    with pytest.raises(InputError, match="no benchmark takes labels that are numbers of these"):
        judge(config, {NETWORK: network}, tmp_path, submission=True)
    config.data.label_table = str(write_table(tmp_path / "table.tsv"))
    result = judge(config, {NETWORK: network}, tmp_path, submission=True)
    zips = [path.name for path in result.written if path.suffix == ".zip"]
    assert zips == ["net.zip", "net_fused_2D.zip", "fused_2D.zip"]
