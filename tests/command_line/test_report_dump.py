"""The command report_dump: what it says before and after, and how it fails."""

from __future__ import annotations

import csv

from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.command_line import report_dump as script
from uov_jax.datasets.nuscenes_tables import NuScenesTables


def test_the_script_reports_and_says_what_it_wrote(tmp_path, tiny_root, tiny_dumps, capsys):
    common = ["--data", str(tiny_root), "--version", "v1.0-mini", "--split", "mini_val"]
    output = tmp_path / "report"
    arguments = [*common, "--dumps", str(tiny_dumps.root), "--output", str(output)]
    assert script.main([*arguments, "--pictures", "1"]) == 0
    out = capsys.readouterr().out
    assert "2 keyframes, 12 images\nmasks per image: 4.0 on average" in out
    assert "purity: " in out
    assert "words: " in out
    assert f"Wrote summary.txt, words.csv and 1 pictures to {output}.\nNext: " in out
    assert len(list(output.glob("*.jpg"))) == 1
    with (output / "words.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 175
    assert rows[0]["word"] == "car"
    assert sum(int(row["masks"]) for row in rows) == 48
    assert script.main([*arguments, "--keyframes", "1"]) == 0
    assert "1 keyframes, 6 images" in capsys.readouterr().out


def test_purity_is_of_the_labelled_keyframes(tmp_path, vocabulary, capsys):
    root = write_dataset(tmp_path / "data", unlabelled=["scene-0103-sample-1"])
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_val")
    dumps = write_dumps(tmp_path / "dumps", keyframes, vocabulary)
    options = ["--version", "v1.0-mini", "--split", "mini_val", "--pictures", "0"]
    folders = ["--data", str(root), "--dumps", str(dumps.root), "--output", str(tmp_path / "out")]
    assert script.main([*options, *folders]) == 0
    out = capsys.readouterr().out
    assert "2 keyframes, 12 images" in out
    assert "true labels: of 1 keyframes, what follows of purity and of right words is theirs" in out


def test_keyframes_without_dumps_are_said_before_the_report(
    tmp_path, tiny_root, tiny_keyframes, vocabulary, capsys
):
    write_dumps(tmp_path / "dumps", tiny_keyframes[:1], vocabulary)
    common = ["--data", str(tiny_root), "--version", "v1.0-mini", "--split", "mini_train"]
    folders = ["--dumps", str(tmp_path / "dumps"), "--output", str(tmp_path / "report")]
    assert script.main([*common, *folders]) == 1
    assert "1 of 2 keyframes have no dump" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_an_image_that_is_cut_off_costs_its_picture_alone(tmp_path, vocabulary, capsys):
    root = write_dataset(tmp_path / "data")
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes("mini_val")
    dumps = write_dumps(tmp_path / "dumps", keyframes, vocabulary)
    image = keyframes[0].cameras[3].path
    image.write_bytes(image.read_bytes()[:200])
    common = ["--data", str(root), "--version", "v1.0-mini", "--split", "mini_val"]
    folders = ["--dumps", str(dumps.root), "--output", str(tmp_path / "report")]
    assert script.main([*common, *folders]) == 0
    out = capsys.readouterr().out
    assert f"{keyframes[0].token}.jpg is left out: {image}" in out
    assert f"{len(keyframes) - 1} pictures" in out
    assert (tmp_path / "report" / "summary.txt").is_file()
    drawn = {path.stem for path in (tmp_path / "report").glob("*.jpg")}
    assert drawn == {keyframe.token for keyframe in keyframes[1:]}
