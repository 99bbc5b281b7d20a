"""Recordings: every frame as it was written, read as a stream, and files that are cut off."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.indoor_files import intrinsics_of, pose_at, sens_bytes
from uov_jax.datasets.sens_file import FRAME_HEADER, SensError, SensFile
from uov_jax.errors import MissingFileError

FRAMES = 7
SIZE, DEPTH_SIZE = (36, 48), (24, 32)
POSES = [pose_at(n / 10, 1, 1.5, 10 * n) for n in range(FRAMES)]
POSES[3] = np.full((4, 4), -np.inf)


def colors() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8) for _ in range(FRAMES)]


def depths() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 5000, DEPTH_SIZE).astype(np.uint16) for _ in range(FRAMES)]


def write(path: Path, **facts: object) -> bytes:
    content = sens_bytes(POSES, colors(), depths(), intrinsics_of(DEPTH_SIZE), **facts)  # type: ignore[arg-type]
    path.write_bytes(content)
    return content


@pytest.mark.parametrize("kinds", [(1, 1), (1, 0)])
def test_frames_come_back(tmp_path: Path, kinds: tuple[int, int]) -> None:
    write(tmp_path / "a.sens", color_kind=kinds[0], depth_kind=kinds[1])
    with SensFile(tmp_path / "a.sens") as sens:
        header = sens.header
        assert header.sensor == "StructureSensor"
        assert (header.color_size, header.depth_size) == (SIZE, DEPTH_SIZE)
        assert (header.frames, header.depth_units) == (FRAMES, 1000.0)
        np.testing.assert_array_equal(
            header.intrinsic_depth, intrinsics_of(DEPTH_SIZE).astype(np.float32)
        )
        assert header.intrinsic_color[0, 0] == pytest.approx(0.9 * 48)
        found = list(sens.frames())
    assert [frame.number for frame in found] == list(range(FRAMES))
    for frame, pose, color, depth in zip(found, POSES, colors(), depths(), strict=True):
        np.testing.assert_array_equal(frame.camera_to_world, pose.astype(np.float32))
        np.testing.assert_array_equal(frame.color(), color)
        np.testing.assert_array_equal(frame.depth(), depth)
        assert frame.depth().dtype == np.uint16


def test_jpeg_colours(tmp_path: Path) -> None:
    write(tmp_path / "a.sens")
    with SensFile(tmp_path / "a.sens") as sens:
        frame = next(sens.frames())
    assert frame.color_data[:2] == b"\xff\xd8"
    assert frame.color().shape == (*SIZE, 3)


def test_every_n_th_frame_and_again(tmp_path: Path) -> None:
    write(tmp_path / "a.sens")
    with SensFile(tmp_path / "a.sens") as sens:
        for _ in range(2):
            assert [frame.number for frame in sens.frames(3)] == [0, 3, 6]
        assert not np.isfinite(list(sens.frames(3))[1].camera_to_world).any()


def test_images_of_frames_that_are_left_out_are_not_read(tmp_path: Path) -> None:
    content = write(tmp_path / "a.sens")
    with SensFile(tmp_path / "a.sens") as sens:
        start, sizes = sens._first, []
        real, sens._file = sens._file, Counting(sens._file)  # type: ignore[assignment]
        wanted = sum(len(f.color_data) + len(f.depth_data) for f in sens.frames(3))
        sizes = sens._file.sizes  # type: ignore[attr-defined]
        sens._file = real
    assert sum(sizes) == wanted + FRAMES * FRAME_HEADER.size
    assert sum(sizes) < (len(content) - start) * 0.6


class Counting:
    """A file that notes how much is read of it."""

    def __init__(self, file) -> None:  # noqa: ANN001
        self.file, self.sizes = file, []
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.sizes.append(size)
        return self.file.read(size)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("every", [1, 4])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, share: float, every: int) -> None:
    content = write(tmp_path / "a.sens")[:-128]  # without what follows the frames
    (tmp_path / "a.sens").write_bytes(content[: int(share * len(content))])
    where = "its header" if share < 0.02 else f"frame . of {FRAMES}"
    expected = rf"a\.sens: the file ends within {where}: download or copy it again"
    with pytest.raises(SensError, match=expected), SensFile(tmp_path / "a.sens") as sens:
        list(sens.frames(every))


def test_the_last_frame_may_be_left_out_but_must_be_there(tmp_path: Path) -> None:
    content = write(tmp_path / "a.sens")[:-129]
    (tmp_path / "a.sens").write_bytes(content)
    with (
        pytest.raises(SensError, match=f"ends within frame 6 of {FRAMES}"),
        SensFile(tmp_path / "a.sens") as sens,
    ):
        list(sens.frames(4))


def test_sizes_of_a_damaged_file_take_no_memory(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "a.sens"))
    with SensFile(tmp_path / "a.sens") as sens:
        struct.pack_into("<Q", content, sens._first + 64 + 16, 1 << 60)
    (tmp_path / "a.sens").write_bytes(content)
    with (
        pytest.raises(SensError, match=f"ends within frame 0 of {FRAMES}"),
        SensFile(tmp_path / "a.sens") as sens,
    ):
        list(sens.frames())


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"version": 3}, "not a recording of version 4, it begins with 3"),
        ({"depth_kind": 2}, "colours as jpeg, depth as occi_ushort: read are"),
        ({"color_kind": 0}, "colours as raw, depth as zlib_ushort"),
        ({"color_kind": -1}, "colours as -1"),
        ({"depth_units": 0.0}, "its header has sizes or units that are none"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, facts: dict, message: str) -> None:
    write(tmp_path / "a.sens", **facts)
    with pytest.raises(SensError, match=rf"a\.sens: .*{message}"):
        SensFile(tmp_path / "a.sens")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sens").write_bytes(b"<html>" * 100)
    with pytest.raises(SensError, match="not a recording of version 4"):
        SensFile(tmp_path / "a.sens")
    (tmp_path / "a.sens").write_bytes(struct.pack("<IQ", 4, 1 << 40))
    with pytest.raises(SensError, match="its sensor's name has 1099511627776 letters"):
        SensFile(tmp_path / "a.sens")
    with pytest.raises(MissingFileError, match="no such recording"):
        SensFile(tmp_path / "b.sens")


def test_damaged_images_are_named_by_frame(tmp_path: Path) -> None:
    write(tmp_path / "a.sens")
    with SensFile(tmp_path / "a.sens") as sens:
        first = next(sens.frames())
    content = (tmp_path / "a.sens").read_bytes()
    damaged = content.replace(first.color_data, bytes(len(first.color_data)))
    damaged = damaged.replace(first.depth_data, bytes(len(first.depth_data)))
    (tmp_path / "a.sens").write_bytes(damaged)
    with SensFile(tmp_path / "a.sens") as sens:
        frame = next(sens.frames())
    with pytest.raises(SensError, match=r"a\.sens: frame 0: damaged colours"):
        frame.color()
    with pytest.raises(SensError, match=r"a\.sens: frame 0: damaged depth"):
        frame.depth()
    other = sens_bytes(
        POSES[:1], [colors()[0][:-2]], depths()[:1], intrinsics_of(DEPTH_SIZE)
    ).replace(struct.pack("<2I", 48, 34), struct.pack("<2I", 48, 36))
    (tmp_path / "a.sens").write_bytes(other)
    with SensFile(tmp_path / "a.sens") as sens:
        frame = next(sens.frames())
    with pytest.raises(SensError, match="colours of 48 x 34 pixels, the recording says 48 x 36"):
        frame.color()
