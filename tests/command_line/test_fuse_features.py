"""The command fuse_features: rooms and frames in, a folder of features out, and what it says."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fusion.rooms import INTRINSICS, poses, wall, write_frames
from uov_jax.command_line import fuse_features as script
from uov_jax.datasets.rooms import RoomStore, RoomWriter
from uov_jax.files import write_text
from uov_jax.fusion import fuse_rooms
from uov_jax.fusion.features import FeatureFolder
from uov_jax.fusion.frame_features import FileTeacher
from uov_jax.fusion.image_features import MaskFeatures
from uov_jax.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary("scannet")
ROOMS = ("scene0000_00", "scene0000_01", "scene0001_00")
SIZE = 16


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three rooms, and frames with the features of a teacher beside them."""
    root = tmp_path_factory.mktemp("indoor")
    writer = RoomWriter(root / "rooms", "scannet", VOCABULARY)
    rng = np.random.default_rng(0)
    for number, room in enumerate(ROOMS):
        coords = wall(300 + number, seed=number)
        writer.write(room, coords, np.zeros((len(coords), 3), np.uint8), None)
        for frame in write_frames(root / "frames" / room, poses()):
            for text, matrix in (("pose", frame.camera_to_world), ("intrinsics", INTRINSICS)):
                path = root / "frames" / room / f"{text}.txt"
                if text == "pose":
                    path = root / "frames" / room / "pose" / f"{frame.name}.txt"
                write_text(path, "\n".join(" ".join(map(str, row)) for row in matrix))
            folder = root / "frames" / room / "features"
            folder.mkdir(exist_ok=True)
            masks = rng.integers(1, 5, (6, 8)).astype(np.uint16)
            embeddings = rng.normal(size=(4, SIZE)).astype(np.float16)
            np.savez(folder / f"{frame.name}.npz", masks=masks, embeddings=embeddings)
    writer.write_split("train", ROOMS[:2])
    writer.write_split("val", ROOMS[2:])
    facts = {"name": "own", "embedding_size": SIZE, "vocabulary_hash": VOCABULARY.hash}
    (root / "frames" / "teacher.json").write_text(json.dumps(facts))
    text = rng.normal(size=(len(VOCABULARY), SIZE))
    np.savez(root / "frames" / "text_embeddings.npz", embeddings=text)
    return root


def arguments(root: Path, output: Path, **changes: object) -> list[str]:
    options = {"rooms": root / "rooms", "frames": root / "frames", "teacher": "own", "cut": 2}
    options |= {"output": output} | changes
    return [
        part
        for name, value in options.items()
        if value is not None
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]


def test_it_fuses_says_what_it_wrote_and_what_comes_next(made, tmp_path, capsys):
    output = tmp_path / "features" / "own"
    assert script.main(arguments(made, output)) == 0
    out = capsys.readouterr().out
    assert (
        "Teacher 'own': 3 rooms (903 points) to do, 0 done already. Expected size: at most" in out
    )
    assert "Wrote 3 rooms (" in out
    assert "15 of 15 frames see points" in out
    labels = tmp_path / "pseudo_labels" / "own"
    assert f"Next: python scripts/make_pseudo_labels.py --rooms {made / 'rooms'} " in out
    assert f"--features {output} --output {labels}\n" in out
    folder = FeatureFolder(output, VOCABULARY)
    folder.check(list(ROOMS))
    facts = folder.manifest
    assert (facts.teacher, facts.embedding_size, facts.dataset) == ("own", SIZE, "scannet")
    assert facts.settings == {"cut": 2, "depth_tolerance": 0.25, "every": 1, "prompt": None}
    np.testing.assert_allclose(np.linalg.norm(folder.text_embeddings, axis=1), 1, rtol=1e-6)
    room = json.loads((output / ROOMS[1] / "fused.json").read_text())
    assert (room["points"], room["frames"], room["used"]) == (301, 5, 5)
    found = folder.room(ROOMS[1], 301)
    assert found.views.max() >= 3
    assert room["visible"] == len(found.features) == np.count_nonzero(found.views)
    assert script.main(arguments(made, output)) == 0
    assert "Wrote 0 rooms (0 Bytes)" in capsys.readouterr().out


def test_it_does_its_share_of_a_split(made, tmp_path, capsys):
    output = tmp_path / "features"
    assert script.main(arguments(made, output, split="train", shard="2/2")) == 0
    out = capsys.readouterr().out
    assert "Shard 2/2: 1 of 2 rooms." in out
    assert "once every shard is done" in out
    assert [path.name for path in output.glob("scene*")] == [ROOMS[1]]
    assert script.main(arguments(made, output, split="train")) == 0
    out = capsys.readouterr().out
    assert "1 rooms (300 points) to do, 1 done already" in out
    assert out.rstrip().endswith(f"--output {tmp_path / 'pseudo_labels'} --split train")
    assert script.main(arguments(made, output, split="test")) == 1
    assert "no split 'test' in this store" in capsys.readouterr().err


def test_settings_change_what_is_seen_and_are_kept(made, tmp_path, capsys):
    views = {}
    for name, changes in (
        ("all", {}),
        ("every", {"every": 2}),
        ("cut", {"cut": 6}),
        ("tight", {"depth_tolerance": 0.001}),
        ("compressed", {"memory": 1e-5}),
    ):
        assert script.main(arguments(made, tmp_path / name, **changes)) == 0
        views[name] = FeatureFolder(tmp_path / name).room(ROOMS[0], 300).views.astype(int)
    np.testing.assert_array_equal(views["compressed"], views["all"])
    for name in ("every", "cut", "tight"):
        assert 0 < views[name].sum() < views["all"].sum()
    capsys.readouterr()
    assert script.main(arguments(made, tmp_path / "all", every=2)) == 1
    assert (
        "the folder holds fused features of settings.every = 1, not of 2" in capsys.readouterr().err
    )


def test_other_words_are_refused(made, tmp_path, capsys):
    root = tmp_path / "made"
    shutil.copytree(made, root)
    assert script.main(arguments(root, tmp_path / "features")) == 0
    other = np.random.default_rng(9).normal(size=(len(VOCABULARY), SIZE))
    np.savez(root / "frames" / "text_embeddings.npz", embeddings=other)
    assert script.main(arguments(root, tmp_path / "features")) == 1
    assert "text_embeddings.npz: the folder holds other embeddings" in capsys.readouterr().err


def resumed(root: Path, output: Path, capsys, **changes: object) -> str:
    """What is said against going on with `output`."""
    capsys.readouterr()
    assert script.main(arguments(root, output, **changes)) == 1
    assert sorted(path.name for path in output.glob("scene*")) == list(ROOMS[:2])
    return capsys.readouterr().err


def turn(frames: Path) -> None:
    """Another pose of one frame."""
    path = frames / ROOMS[0] / "pose" / "2.txt"
    pose = np.loadtxt(path)
    pose[2, 3] += 0.01
    np.savetxt(path, pose)


def cut_intrinsics(frames: Path) -> None:
    """Another camera of one room."""
    np.savetxt(frames / ROOMS[1] / "intrinsics.txt", INTRINSICS + np.diag([1.0, 0, 0]))


def leave_out(frames: Path) -> None:
    """One frame fewer."""
    for path in (frames / ROOMS[0]).glob("*/4.*"):
        path.unlink()


def more_masks(frames: Path) -> None:
    """Other features of the same teacher beside the same frames."""
    masks, embeddings = np.ones((9, 12), np.uint16), np.ones((1, SIZE), np.float16)
    np.savez(frames / ROOMS[0] / "features" / "1.npz", masks=masks, embeddings=embeddings)


@pytest.mark.parametrize("change", [turn, cut_intrinsics, leave_out, more_masks])
def test_a_folder_holds_one_fusion(made, tmp_path, capsys, change):
    output, other = tmp_path / "features", tmp_path / "other" / "frames"
    assert script.main(arguments(made, output, split="train")) == 0
    shutil.copytree(made / "frames", other)
    change(other)
    error = resumed(made, output, capsys, frames=other)
    assert "the room was made of other frames than it has now" in error
    # A share of which nothing is there yet is compared by the rooms of others.
    error = resumed(made, output, capsys, frames=other, split="val")
    assert "the room was made of other frames than it has now" in error
    # Copied frames are the same; and rooms that are made need theirs no more.
    shutil.rmtree(other)
    shutil.copytree(made / "frames", other)
    shutil.rmtree(other / ROOMS[0])
    assert script.main(arguments(made, output, frames=other)) == 0


def test_units_of_depth_are_of_all_rooms(made, tmp_path, capsys):
    output = tmp_path / "features"
    assert script.main(arguments(made, output, split="train")) == 0
    error = resumed(made, output, capsys, depth_units=1001)
    assert "settings.depth_units = 'nothing', not of 1001.0: give another folder" in error


def test_the_resize_of_a_teachers_grids_is_of_all_rooms(made, tmp_path, capsys):
    root, output = tmp_path / "made", tmp_path / "features"
    shutil.copytree(made, root)
    assert script.main(arguments(root, output, split="train")) == 0
    facts = json.loads((root / "frames" / "teacher.json").read_text()) | {"resize": "nearest"}
    (root / "frames" / "teacher.json").write_text(json.dumps(facts))
    assert "settings.resize = 'nothing', not of 'nearest'" in resumed(root, output, capsys)


def test_rooms_that_do_not_say_what_they_are_of_are_counted(made, tmp_path, capsys):
    output = tmp_path / "features"
    assert script.main(arguments(made, output)) == 0
    path = output / ROOMS[0] / "fused.json"
    facts = json.loads(path.read_text())
    del facts["source"]
    path.write_text(json.dumps(facts))
    capsys.readouterr()
    assert script.main(arguments(made, output)) == 0
    assert "1 rooms were there before it was kept which frames they are of" in (
        capsys.readouterr().out
    )


def test_compressed_features_are_the_same(made, tmp_path):
    found = []
    for name, flags in (("plain", []), ("packed", ["--compress"])):
        assert script.main([*arguments(made, tmp_path / name), *flags]) == 0
        found.append(FeatureFolder(tmp_path / name).room(ROOMS[0], 300).features)
    assert (tmp_path / "packed" / ROOMS[0] / "features.zst").is_file()
    np.testing.assert_array_equal(*found)


def test_a_room_that_fails_is_named_and_the_others_go_on(made, tmp_path, capsys):
    root = tmp_path / "made"
    shutil.copytree(made, root)
    broken = root / "frames" / ROOMS[0] / "features" / "3.npz"
    broken.write_bytes(broken.read_bytes()[:50])
    (root / "frames" / ROOMS[1] / "depth" / "2.png").unlink()
    output = tmp_path / "features"
    assert script.main(arguments(root, output)) == 1
    captured = capsys.readouterr()
    assert f"room {ROOMS[0]} is left out: {broken}: damaged, or no features" in captured.out
    assert f"room {ROOMS[0]}: {broken}" in captured.err
    assert "depth/2.png: missing" in captured.err
    assert "error: 2 of 3 rooms have no features" in captured.err
    assert "Next" not in captured.out
    assert sorted(path.name for path in output.iterdir()) == [
        "fused.json", ROOMS[2], "text_embeddings.npz",
    ]  # fmt: skip
    shutil.copytree(made / "frames", root / "frames", dirs_exist_ok=True)
    assert script.main(arguments(root, output)) == 0
    assert "2 rooms (601 points) to do, 1 done already" in capsys.readouterr().out


def test_it_gives_up_where_all_rooms_fail(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fuse_rooms, "HOPELESS", 2)
    root = tmp_path / "made"
    shutil.copytree(made, root)
    for room in ROOMS:
        shutil.rmtree(root / "frames" / room / "features")
    assert script.main(arguments(root, tmp_path / "features")) == 1
    assert "error: 2 rooms failed one after the other, the last with" in capsys.readouterr().err


def test_a_room_that_no_view_sees_is_reported(made, tmp_path, capsys):
    root = tmp_path / "made"
    shutil.copytree(made, root)
    writer = RoomWriter(root / "rooms", "scannet", VOCABULARY)
    far = wall(200) + np.float32(50)
    writer.write(ROOMS[0], far, np.zeros((200, 3), np.uint8), None)
    assert script.main(arguments(root, tmp_path / "features")) == 1
    assert f"room {ROOMS[0]}: no view sees any of its points" in capsys.readouterr().err
    assert not (tmp_path / "features" / ROOMS[0]).exists()


def test_it_can_be_stopped_and_goes_on(made, tmp_path, capsys, monkeypatch):
    class Stopping(FileTeacher):
        asked = 0

        def features(self, frame: object, loaded: MaskFeatures) -> MaskFeatures:
            type(self).asked += 1
            if self.asked == 8:
                raise KeyboardInterrupt
            return loaded

    output = tmp_path / "features"
    with monkeypatch.context() as patch:
        patch.setattr(script, "FileTeacher", Stopping)
        assert script.main(arguments(made, output)) == 130
    assert "The same command goes on from here" in capsys.readouterr().err
    assert [path.name for path in output.glob("*scene*")] == [ROOMS[0]]
    assert not list(output.glob(".*"))
    (output / f".{ROOMS[1]}.0.tmp").mkdir()  # as of a process that was killed
    assert script.main(arguments(made, output)) == 0
    assert "2 rooms (603 points) to do, 1 done already" in capsys.readouterr().out
    assert not list(output.glob(".*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rooms": "/nowhere"}, "no prepared rooms here"),
        ({"frames": "/nowhere"}, "no folder of frames"),
        (
            {"teacher": "other"},
            "features of the teacher 'own' lie beside these frames, not of 'oth",
        ),
        ({"teacher": "maskclip"}, "open_clip_model.safetensors (1.71 GB)"),
        ({"teacher": "slic"}, "the teacher 'slic' has no words"),
        ({"vocabulary": "s3dis"}, "labels of the vocabulary 'scannet', not of 's3dis'"),
        ({"cut": 2, "depth_tolerance": 1.5}, "a cut of 2 pixels and a depth tolerance of 1.5"),
    ],
)
def test_what_cannot_be_used_is_one_clear_message(made, tmp_path, capsys, changes, message):
    assert script.main(arguments(made, tmp_path / "features", **changes)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": None}, "give either --teacher"),
        ({"openscene": "x"}, "give either --teacher"),
        ({"frames": None}, "give the --frames"),
        ({"memory": 0}, "expected more than 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(made, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit):
        script.main(arguments(made, tmp_path / "features", **changes))
    assert message in capsys.readouterr().err


def test_a_package_that_is_not_installed_is_named(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("uov_jax.teachers.")]:
        monkeypatch.delitem(sys.modules, name)
    assert script.main(arguments(made, tmp_path / "features", teacher="san")) == 1
    assert "the teacher 'san' needs the package 'torch'" in capsys.readouterr().err


def write_published(folder: Path, store: RoomStore, size: int = SIZE) -> dict[str, np.ndarray]:
    """Features of two rooms as OpenScene publishes them, one of them in chunks."""
    torch = pytest.importorskip("torch")
    folder.mkdir()
    rng = np.random.default_rng(0)
    masks = {}
    for room in ROOMS[:2]:
        points = store.facts(room).points
        features = rng.normal(size=(points, size)).astype(np.float16)
        parts = [rng.random(points) < 0.4 for _ in range(3 if room == ROOMS[0] else 1)]
        for number, mask in enumerate(parts):
            name = f"{room}_{number}.pt" if len(parts) > 1 else f"{room}.pt"
            content = {"feat": torch.from_numpy(features[mask]), "mask_full": mask}
            torch.save(content, folder / name)
        masks[room] = np.logical_or.reduce(parts)
    return masks


def test_published_features_become_a_folder(made, tmp_path, capsys):
    masks = write_published(tmp_path / "published", RoomStore(made / "rooms"))
    output = tmp_path / "features"
    options = {"teacher": None, "frames": None, "cut": None, "openscene": tmp_path / "published"}
    options |= {"split": "train", "text": made / "frames" / "text_embeddings.npz"}
    assert script.main(arguments(made, output, **options)) == 0
    out = capsys.readouterr().out
    assert "Teacher 'openscene': 2 rooms (601 points) to do" in out
    assert "Next: python scripts/make_pseudo_labels.py" in out
    folder = FeatureFolder(output, VOCABULARY)
    assert folder.manifest.teacher == "openscene"
    for room, mask in masks.items():
        np.testing.assert_array_equal(folder.room(room, len(mask)).views, mask)
    # Other words are not dropped without a word.
    other = np.random.default_rng(9).normal(size=(len(VOCABULARY), SIZE))
    np.savez(tmp_path / "other.npz", embeddings=other)
    assert script.main(arguments(made, output, **(options | {"text": tmp_path / "other.npz"}))) == 1
    assert "text_embeddings.npz: the folder holds other embeddings" in capsys.readouterr().err
    # Neither are other features.
    shutil.copytree(tmp_path / "published", tmp_path / "second")
    torch = pytest.importorskip("torch")
    content = torch.load(tmp_path / "second" / f"{ROOMS[1]}.pt", weights_only=False)
    torch.save(content | {"feat": content["feat"] * 2}, tmp_path / "second" / f"{ROOMS[1]}.pt")
    second = options | {"openscene": tmp_path / "second"}
    assert script.main(arguments(made, output, **second)) == 1
    error = capsys.readouterr().err
    assert f"{ROOMS[1]}: the room was made of other published files than it has now" in error
    # The third room has none.
    assert script.main(arguments(made, output, **(options | {"split": None}))) == 1
    assert f"{ROOMS[2]}.pt: no features of the scene" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "text", "message"),
    [
        (SIZE, False, "words are needed to compare these features with"),
        (SIZE + 1, True, f"[20 words, {SIZE + 1} numbers]"),
    ],
)
def test_published_features_need_their_words(made, tmp_path, capsys, size, text, message):
    write_published(tmp_path / "published", RoomStore(made / "rooms"), size)
    options = {"teacher": None, "frames": None, "cut": None, "openscene": tmp_path / "published"}
    if text:
        options["text"] = made / "frames" / "text_embeddings.npz"
    assert script.main(arguments(made, tmp_path / "features", **options)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "features").exists()
