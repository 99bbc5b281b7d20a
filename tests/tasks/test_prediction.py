"""Labels of clouds by networks of every kind, against the networks' own outputs."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import uov_jax
from tests.tasks.labellers import write_run
from tests.tasks.room_recipe import room_config
from tests.tasks.test_tri_modal import tiny_config
from tests.tiny_dataset import write_dataset, write_dumps
from tests.tiny_rooms import write_features, write_rooms
from uov_jax.checkpoints.files import load_state_dict_file, save_state_dict_file
from uov_jax.checkpoints.folder import CheckpointError
from uov_jax.checkpoints.load import NetworkMismatchError
from uov_jax.checkpoints.transfer import export_checkpoint, import_checkpoint
from uov_jax.clouds import read_cloud
from uov_jax.clouds.cloud import CloudError
from uov_jax.clouds.likeness import figures_of
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.rooms import RoomStore
from uov_jax.dumps.folder import DumpFolder
from uov_jax.errors import InputError, MissingFileError, NotFiniteError
from uov_jax.input.whole_room import room_input
from uov_jax.tasks import prediction
from uov_jax.tasks.build import build_task
from uov_jax.tasks.prediction import CloudLabeller, CloudWarning, UnlabelledError
from uov_jax.tasks.query import QueriedNetwork, QueryError
from uov_jax.training.device_memory import DeviceMemoryError
from uov_jax.vocabulary import VocabularyError, load_vocabulary

VOCABULARY = load_vocabulary()
# The sweeps of the tiny dataset are of random points: none is like another.
pytestmark = pytest.mark.filterwarnings("ignore::uov_jax.tasks.prediction.CloudWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pre-training on the tiny dataset."""
    root = write_dataset(tmp_path_factory.mktemp("dataset"))
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(root / "dumps", keyframes, VOCABULARY)
    return write_run(root / "run", tiny_config(root, root / "cache"))


@pytest.fixture(scope="module")
def keyframe(run: Path) -> Keyframe:
    return NuScenesTables(run.parent, "v1.0-mini").keyframes("mini_val")[0]


@pytest.fixture(scope="module")
def network(run: Path) -> CloudLabeller:
    return uov_jax.load(run)


@pytest.fixture(scope="module")
def similarity(run: Path, keyframe: Keyframe) -> np.ndarray:
    """float64[points, words]: of the features that a query sees, by numpy."""
    queried = QueriedNetwork(run)
    _, features = queried.features(keyframe, VOCABULARY)
    dumps = DumpFolder(run.parent / "dumps", VOCABULARY)
    assert dumps.text_embeddings is not None
    words = dumps.text_embeddings.astype(np.float64)
    return features.astype(np.float64) @ (words / np.linalg.norm(words, axis=1, keepdims=True)).T


def parts(keyframe: Keyframe) -> dict[str, Any]:
    points = keyframe.points()
    return {"points": points[:, :3], "intensity": points[:, 3]}


def clear(similarity: np.ndarray) -> np.ndarray:
    """bool[points]: the best word is not a matter of rounding."""
    best = np.sort(similarity, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0] > 1e-5


# ---- networks of words --------------------------------------------------------------------------


def test_labels_are_the_classes_of_the_nearest_words(network, keyframe, similarity):
    labels = network.predict(**parts(keyframe))
    assert network.classes == VOCABULARY.eval_classes
    classes = VOCABULARY.word_eval_class
    expected = classes[np.where(classes > 0, similarity, -np.inf).argmax(axis=1)]
    sure = clear(similarity)
    assert sure.mean() > 0.9
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[sure], expected[sure])


def test_texts_are_labelled_where_no_other_word_fits_better(network, keyframe, similarity):
    asked = network.for_texts(["traffic cone", "sedan"])
    assert asked.classes == ("other", "traffic cone", "sedan")
    assert asked.colors.shape == (3, 3)
    labels = asked.predict(**parts(keyframe))
    classes, words = VOCABULARY.word_eval_class, np.array(VOCABULARY.words)
    value = np.zeros(len(words), int)
    takes_part = classes > 0
    for number, text in enumerate(("traffic cone", "sedan"), start=1):
        own = words == text
        # Other words of the same class neither win nor speak against it.
        takes_part &= ~np.isin(classes, classes[own]) | (words == "sedan")
        takes_part |= own
        value[own] = number
    expected = value[np.where(takes_part, similarity, -np.inf).argmax(axis=1)]
    sure = clear(similarity[:, takes_part])
    np.testing.assert_array_equal(labels[sure], expected[sure])
    # The first network answers as before.
    assert network.classes == VOCABULARY.eval_classes
    assert (network.predict(**parts(keyframe)) > 0).all()


def test_a_text_with_its_own_vector_is_asked_for(network, keyframe, similarity):
    classes = VOCABULARY.word_eval_class
    best = np.where(classes > 0, similarity, -np.inf).argmax(axis=1)
    index = int(np.bincount(best).argmax())  # the word of most points
    vector = network.card.words.embeddings[index]
    asked = network.for_texts({"a thing": 7 * vector})
    (note,) = asked.notes
    kind = VOCABULARY.eval_classes[classes[index]].replace("_", " ")
    word = VOCABULARY.words[index]
    assert note.startswith(f"'a thing' counts to the class {kind!r}, as {word!r} is the word neare")
    mine = asked.predict(**parts(keyframe))
    # Other words for the same do not speak against it.
    takes_part = (classes > 0) & (classes != classes[index])
    takes_part[index] = True
    expected = np.where(takes_part, similarity, -np.inf).argmax(axis=1) == index
    sure = clear(similarity[:, takes_part])
    assert expected[sure].any()
    np.testing.assert_array_equal(mine[sure] == 1, expected[sure])


@pytest.mark.parametrize("name", ["traffic cone", "vegetation", "car"])
def test_a_class_with_its_own_vector_has_no_words_against_it(network, keyframe, name):
    """As --embeddings and --weights give one; "vegetation" is a class and no word."""
    words, own = network.card.words, VOCABULARY.eval_classes.index(name.replace(" ", "_"))
    vector = words.embeddings[VOCABULARY.words_of_class(own)[0]]
    asked = network.for_texts({name: vector})
    assert asked.notes == ()
    other = asked._words[0].T[asked._words[1] == 0]
    left = np.flatnonzero(~np.isin(VOCABULARY.word_eval_class, [0, own]))
    expected = words.embeddings[left].astype(np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_array_equal(other[: len(left)], expected)
    assert (other[len(left) :] == expected[-1]).all()  # padding


def test_texts_of_texts_are_as_those_asked_for_first(network, keyframe):
    given = parts(keyframe)
    twice = network.for_texts(["sedan"]).for_texts(["traffic cone"]).predict(**given)
    np.testing.assert_array_equal(twice, network.for_texts(["traffic cone"]).predict(**given))


@pytest.mark.parametrize("changed", [{"dtype": "bfloat16"}, {"precision": "tf32"}])
def test_networks_of_rounded_products_compare_whole_features(run, keyframe, changed):
    """A sum of products with words does not lose what a feature's rounding averages out."""
    stored = prediction.read_network(run)
    card = prediction._card(stored, None)
    card = dataclasses.replace(card, model=dict(card.model) | changed)
    loaded = prediction.load_network(prediction._builder(card, stored), stored, card.voxels)
    made = CloudLabeller(card, loaded)
    assert made._head["final.kernel"] is made._state.parameters["final.kernel"]
    cloud = prediction._cloud(**parts(keyframe), colours=None)
    sample = made._sample(cloud, cloud.xyz, cloud.intensity, [])
    features = jax.jit(loaded.predict())(made._state, sample["inputs"])
    similarity = np.asarray(features)[sample["inverse"]].astype(np.float64) @ made._words[0]
    expected = made._words[1][similarity.argmax(axis=1)]
    sure = clear(similarity[:, np.unique(made._words[0], axis=1, return_index=True)[1]])
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(made.predict(**parts(keyframe))[sure], expected[sure])


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["sedann"], QueryError, "'sedann' is neither a word nor a class.*did you mean 'sedan'"),
        ([], InputError, r"texts \[\]: expected a list of words"),
        ("sedan", InputError, "texts 'sedan': expected a list of words"),
        ([f"{number}" for number in range(255)], VocabularyError, "the words given"),
        ({"a": np.zeros(16)}, InputError, "the embedding of 'a': expected a vector with a dir"),
        ({"a": np.ones(8)}, InputError, "embeddings of 8 and 16 numbers"),
    ],
)
def test_texts_that_cannot_be_asked_for(network, texts, error, message):
    with pytest.raises(error, match=message):
        network.for_texts(texts)


# ---- points -------------------------------------------------------------------------------------


def test_points_that_are_not_finite_get_0_and_change_nothing(network, keyframe):
    given = parts(keyframe)
    labels = network.predict(**given)
    points = np.insert(given["points"], [0, 5, len(labels)], np.nan, axis=0)
    intensity = np.insert(given["intensity"], [0, 5, len(labels)], 1.0)
    points[0, 1] = 3.0
    intensity[10], points[10] = np.nan, points[11]
    found = network.predict(points, intensity=intensity)
    missing = np.zeros(len(points), bool)
    missing[[0, 6, len(points) - 1, 10]] = True
    assert (found[missing] == 0).all()
    kept = np.delete(np.arange(len(points)), np.flatnonzero(missing))
    without = network.predict(points[kept], intensity=intensity[kept])
    np.testing.assert_array_equal(found[kept], without)


def test_float64_lists_and_whole_numbers_are_points(network, keyframe):
    given = parts(keyframe)
    doubles = network.predict(given["points"].astype(float), intensity=given["intensity"])
    np.testing.assert_array_equal(doubles, network.predict(**given))


@pytest.mark.parametrize(
    ("points", "more", "message"),
    [
        (np.zeros((4, 4)), {}, r"points float64 \(4, 4\): expected numbers \[N, 3\]"),
        (np.zeros((4, 3), bool), {}, "points bool"),
        (np.zeros((4, 3)), {"intensity": np.zeros(3)}, r"intensity \(3,\): expected \(4,\)"),
        (np.ones((4, 3)), {"colours": np.zeros((4, 3))}, "colours of float64: expected uint8"),
        (np.ones((4, 3)), {}, "the points given: the points have no intensity"),
        (np.full((4, 3), np.nan), {"intensity": np.ones(4)}, "none has a finite position"),
        (np.zeros((0, 3)), {"intensity": np.ones(0)}, "no points in it"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(network, points, more, message):
    with pytest.raises(InputError, match=message):
        network.predict(points, **more)


def test_a_cloud_unlike_the_training_data_is_told_of(network, keyframe):
    given = parts(keyframe)
    cloud = prediction._cloud(given["points"] * np.float32(1000), given["intensity"], None)
    try:
        warnings = network.predict_cloud(cloud).warnings
    except InputError as error:  # it has too many voxels, or they are too far away
        warnings = (str(error),)
    assert "--scale 0.001" in warnings[0]
    own = figures_of(given["points"], given["intensity"])
    alike = copy.copy(network)
    alike.card = dataclasses.replace(network.card, training=own)
    cloud = prediction._cloud(given["points"], given["intensity"], None)
    assert alike.predict_cloud(cloud).warnings == ()
    sparse = dataclasses.replace(own, points_per_voxel=50.0)
    alike.card = dataclasses.replace(network.card, training=sparse)
    (said,) = alike.predict_cloud(cloud).warnings
    assert "points a voxel, training clouds 50" in said


def test_a_cloud_of_too_many_voxels_is_one_error(network, keyframe):
    small = copy.copy(network)
    small._plans = tuple(dataclasses.replace(p, capacity=64) for p in network._plans[:1])
    with pytest.raises(InputError, match="the points given: more voxels than the 64 that a cloud"):
        small.predict(**parts(keyframe))


def test_sizes_go_on_where_training_ended(network):
    sizes = [plan.capacity for plan in network._plans]
    assert sizes[0] == 2560
    assert sizes == sorted(sizes)
    assert sizes[-1] >= prediction.MOST_VOXELS
    assert all(b / a < 1.8 for a, b in zip(sizes, sizes[1:], strict=False))


def test_outputs_that_are_not_finite_are_an_error(network, keyframe):
    broken = copy.copy(network)
    head = network._state.parameters["final.kernel"]
    parameters = network._state.parameters | {"final.kernel": head * np.float32(np.nan)}
    broken._state = network._state._replace(parameters=parameters)
    with pytest.raises(NotFiniteError, match="the points given: the network's outputs of"):
        broken.predict(**parts(keyframe))


def test_only_what_a_network_takes_must_be_a_number(run, network, keyframe, room_run):
    given = parts(keyframe)
    colours = np.zeros((len(given["points"]), 3), np.uint8)
    np.testing.assert_array_equal(
        network.predict(**given, colours=colours), network.predict(**given)
    )
    room = RoomStore(room_run.parent / "rooms").room("scene0002_00")
    labeller = uov_jax.load(room_run)
    expected = labeller.predict(room.coords, colours=room.colors)
    light = np.where(np.arange(len(room.coords)) % 2, np.nan, 1.0).astype(np.float32)
    found = labeller.predict(room.coords, colours=room.colors, intensity=light)
    np.testing.assert_array_equal(found, expected)
    points = np.where([[True], [False]], given["points"][:2], np.nan)
    with pytest.raises(CloudError, match="none has a finite position and intensity"):
        network.predict(points, intensity=np.array([np.nan, 1.0]))


def test_a_sweeps_colours_may_be_anything(run, network, keyframe, tmp_path):
    given = parts(keyframe)
    points = given["points"]
    content = {"points": points, "intensity": given["intensity"]}
    np.savez(tmp_path / "a.npz", colors=points - 50, **content)
    cloud = read_cloud(tmp_path / "a.npz")
    labels = network.predict_cloud(cloud).labels
    np.testing.assert_array_equal(labels, network.predict(**given))
    with pytest.raises(CloudError, match=r"a\.npz: colours of float32 from"):
        cloud.needed_colors()


def test_points_unlike_training_are_warned_of(network, keyframe):
    given = parts(keyframe)
    card = dataclasses.replace(
        network.card, training=figures_of(given["points"], given["intensity"])
    )
    made = copy.copy(network)
    made.card = card
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.predict(**given)
    with pytest.warns(CloudWarning, match=r"do not look like the training data: .*--lift -2"):
        made.predict(given["points"] + np.float32([0, 0, 2]), intensity=given["intensity"])
    with pytest.warns(CloudWarning, match=r"these are coordinates of a map: what follows is from"):
        made.predict(given["points"] + np.float64([5e5, 4e6, 0]), intensity=given["intensity"])
    # One point, as of a sensor that is covered.
    with pytest.warns(CloudWarning, match="all its points lie at one place"):
        made.predict(given["points"][:1], intensity=given["intensity"][:1])


def test_a_cloud_that_a_device_has_no_room_for_is_named(network, keyframe):
    """By the true error of the allocator."""

    @jax.jit
    def greedy(*given: Any) -> jax.Array:
        del given
        rows = jnp.arange(2**20, dtype=jnp.float32)
        return jnp.sort(rows[:, None] * rows[None, :], axis=0)[0]

    broken = copy.copy(network)
    broken._classify = greedy
    with pytest.raises(
        DeviceMemoryError,
        match=r"^the points given: too little memory for a cloud of [\d,]+ voxels: "
        r"RESOURCE_EXHAUSTED.*\. Cut it into parts, or take the machine's own memory",
    ):
        broken.predict(**parts(keyframe))


# ---- checkpoints --------------------------------------------------------------------------------


def test_an_exported_file_alone_gives_the_same_labels(run, network, keyframe, tmp_path):
    export_checkpoint(run, tmp_path / "network.npz")
    file = uov_jax.load(tmp_path / "network.npz")
    assert file.classes == network.classes
    np.testing.assert_array_equal(
        file.predict(**parts(keyframe)), network.predict(**parts(keyframe))
    )
    imported = tmp_path / "imported"
    import_checkpoint(load_state_dict_file(tmp_path / "network.npz"), imported)
    again = uov_jax.load(imported).predict(**parts(keyframe))
    np.testing.assert_array_equal(again, network.predict(**parts(keyframe)))


def test_an_older_run_works_with_what_is_named(run, network, keyframe, tmp_path):
    config = tiny_config(run.parent, run.parent / "cache")
    old = uov_jax.load(write_run(tmp_path / "old", config, with_card=False))
    np.testing.assert_array_equal(
        old.predict(**parts(keyframe)), network.predict(**parts(keyframe))
    )
    assert "16 classes and input are those of its run's recipe" in old.card.assumed[0]
    assert "taken to be like those of nuscenes" in old.card.assumed[1]
    assert network.card.assumed == ()


def test_an_older_run_without_its_dumps_asks_for_texts(run, keyframe, tmp_path):
    config = tiny_config(run.parent, run.parent / "cache")
    write_run(tmp_path / "old", config, with_card=False)
    dumps = run.parent / "dumps"
    dumps.rename(run.parent / "away")
    try:
        old = uov_jax.load(tmp_path / "old")
    finally:
        (run.parent / "away").rename(dumps)
    assert any("its words were looked for in vain" in said for said in old.card.assumed)
    with pytest.raises(UnlabelledError, match="the words to compare them with are not at hand"):
        old.predict(**parts(keyframe))
    with pytest.raises(QueryError, match="'sedan': the words that .* learned from are not at hand"):
        old.for_texts(["sedan"])
    with pytest.raises(InputError, match="embeddings of 8 and 16 numbers"):
        old.for_texts({"a": np.ones(8)})
    vectors = np.eye(2, 16)
    labels = old.for_texts({"one": vectors[0], "other one": vectors[1]}).predict(**parts(keyframe))
    assert set(np.unique(labels)) <= {1, 2}


def test_weights_of_others_need_a_recipe(run, network, keyframe, tmp_path):
    tensors = load_state_dict_file(export(run, tmp_path / "all.npz")).state_dict
    bare = save_state_dict_file(tmp_path / "bare.npz", tensors)
    with pytest.raises(UnlabelledError, match="do not say what their outputs are.*--recipe"):
        uov_jax.load(bare)
    config = tiny_config(run.parent, run.parent / "cache")
    found = prediction.load(bare, config)
    np.testing.assert_array_equal(
        found.predict(**parts(keyframe)), network.predict(**parts(keyframe))
    )
    assert "are those of the recipe given" in found.card.assumed[0]
    config.model.variant = "res16unet34c"
    with pytest.raises(NetworkMismatchError, match="tensors of the recipe's network"):
        prediction.load(bare, config)


def export(run: Path, file: Path) -> Path:
    export_checkpoint(run, file)
    return file


def test_what_is_no_checkpoint_is_one_error(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        uov_jax.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="without a checkpoint"):
        uov_jax.load(tmp_path)
    (tmp_path / "a.pt").write_bytes(b"no weights at all, only words")
    with pytest.raises(InputError, match="not a checkpoint of torch.save"):
        uov_jax.load(tmp_path / "a.pt")


# ---- an output a class --------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["finetune_nuscenes", "annotation_free_san"])
def test_networks_of_classes_give_their_largest_output(configure, tmp_path, recipe):
    config = configure(recipe)
    network = uov_jax.load(write_run(tmp_path / "run", config))
    task: Any = build_task(config)
    sample = task._evaluation_sample(0)
    model = task.build_model(nnx.Rngs(0), None)
    model.eval()
    rows = nnx.jit(lambda model, inputs: model(**inputs))(model, sample["inputs"])
    logits = np.asarray(rows)[sample["inverse"]]
    points = sample["points"]
    labels = network.predict(points[:, :3], intensity=points[:, 3])
    sure = clear(logits[:, 1:])
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(labels[sure], 1 + logits[sure, 1:].argmax(axis=1))
    assert network.classes == VOCABULARY.eval_classes
    training = network.card.training
    assert training is not None
    assert training.points == np.median([len(task.train.points(i)) for i in range(2)])
    with pytest.raises(InputError, match="has an output for each of 16 classes: leave --text out"):
        network.for_texts(["car"])


def test_scans_get_the_offset_of_their_recipe(configure, kitti, tmp_path):
    config = configure(
        "finetune_semantickitti",
        root=str(kitti),
        train_split="00",
        val_split="08",
        intensity_offset=1.0,
    )
    network = uov_jax.load(write_run(tmp_path / "run", config))
    task: Any = build_task(config)
    assert len(network.classes) == 20
    assert network.card.ahead == "x"
    assert network.card.intensity_offset == config.data.intensity_offset == 1.0
    # The task's points have the offset already.
    points = task.validation.points(0)
    sample = task._evaluation_sample(0)
    model = task.build_model(nnx.Rngs(0), None)
    model.eval()
    rows = nnx.jit(lambda model, inputs: model(**inputs))(model, sample["inputs"])
    logits = np.asarray(rows)[sample["inverse"]]
    labels = network.predict(points[:, :3], intensity=points[:, 3] - np.float32(1.0))
    sure = clear(logits[:, 1:]) & (points[:, 3] - np.float32(1) + np.float32(1) == points[:, 3])
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(labels[sure], 1 + logits[sure, 1:].argmax(axis=1))


# ---- rooms --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def room_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms")
    scannet = load_vocabulary("scannet")
    store = write_rooms(root / "rooms", scannet, points=1500)
    write_features(root / "features", store, scannet, noise=0.3)
    cache = tmp_path_factory.getbasetemp() / "compilation_cache"
    return write_run(root / "run", room_config(root, cache))


def test_rooms_are_labelled_by_words(room_run):
    network = uov_jax.load(room_run)
    scannet = load_vocabulary("scannet")
    room = RoomStore(room_run.parent / "rooms").room("scene0002_00")
    labels = network.predict(room.coords, colours=room.colors)
    assert network.classes == scannet.eval_classes
    task: Any = build_task(room_config(room_run.parent, room_run.parent / "cache"))
    sample = room_input(room, task.plans, 0.1)
    model = task.build_model(nnx.Rngs(0), None)
    model.eval()
    rows = nnx.jit(lambda model, inputs: model(**inputs))(model, sample["inputs"])
    features = np.asarray(rows, np.float64)[sample["inverse"]]
    scores = features @ task.data.features.text_embeddings.T.astype(np.float64)
    sure = clear(scores)
    assert sure.mean() > 0.5
    expected = scannet.word_eval_class[scores.argmax(axis=1)]
    np.testing.assert_array_equal(labels[sure], expected[sure])
    with pytest.raises(CloudError, match="the points given: the points have no colours"):
        network.predict(room.coords)
    with pytest.raises(InputError, match="AFI is of sweeps, not of rooms"):
        network.predict(room.coords, colours=room.colors, afi=True)


def test_a_room_alone_is_enough_for_an_export(room_run, tmp_path):
    export_checkpoint(room_run, tmp_path / "rooms.npz")
    network = uov_jax.load(tmp_path / "rooms.npz")
    bed = network.for_texts(["bed"])
    room = RoomStore(room_run.parent / "rooms").room("scene0002_00")
    whole = network.predict(room.coords, colours=room.colors)
    alone = bed.predict(room.coords, colours=room.colors)
    # ScanNet's vocabulary has one word a class.
    np.testing.assert_array_equal(alone == 1, whole == network.classes.index("bed"))
