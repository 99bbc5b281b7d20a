"""The command convert_dump: what it says before and after, and how it fails."""

from __future__ import annotations

from tests.dumps.test_convert import assert_same_content
from tests.tiny_dataset import write_dumps
from uov_jax.command_line import convert_dump as script
from uov_jax.dumps.folder import DumpFolder


def test_the_script_finds_the_direction(tmp_path, tiny_root, tiny_keyframes, vocabulary, capsys):
    write_dumps(tmp_path / "native", tiny_keyframes, vocabulary)
    common = ["--data", str(tiny_root), "--version", "v1.0-mini", "--split", "mini_train"]
    folders = [tmp_path / name for name in ("native", "reference", "again")]
    for source, target in zip(folders, folders[1:], strict=False):
        moved = ["--input", str(source), "--output", str(target), "--teacher", "tiny"]
        assert script.main([*common, *moved]) == 0
        out = capsys.readouterr().out
        assert "Wrote 2 keyframes" in out
        assert f"dump_teacher.py --check --data {tiny_root}" in out
    again = DumpFolder(tmp_path / "again", vocabulary)
    assert again.teacher == "tiny"
    for keyframe in tiny_keyframes[:2]:
        assert_same_content(again.read(keyframe), DumpFolder(folders[0]).read(keyframe))
    assert script.main([*common, "--input", str(tmp_path), "--output", str(tmp_path / "x")]) == 1
    assert "error: " in capsys.readouterr().err
