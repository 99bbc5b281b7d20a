"""PCD files: ASCII, binary and compressed, as pypcd4 writes them and by hand; and wrong ones."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import lzf
import numpy as np
import pytest
from pypcd4 import Encoding

from tests.clouds.cloud_files import colored, colors_of, pcd_bytes, sweep, write_pcd, xyz_of
from uov_jax.clouds import CloudError, Reading, read_cloud
from uov_jax.clouds.lzf import decompress_lzf


def coarse_sweep() -> dict[str, np.ndarray]:
    """A sweep that compression makes smaller; one that does not shrink pypcd4 writes otherwise."""
    return {name: np.round(v / 4).astype(v.dtype) * 4 for name, v in sweep(200).items()}


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.BINARY_COMPRESSED])
def test_what_pypcd4_writes_comes_back_to_the_last_bit(tmp_path: Path, encoding: Encoding) -> None:
    fields = coarse_sweep()
    cloud = read_cloud(write_pcd(tmp_path / "a.pcd", fields, encoding))
    np.testing.assert_array_equal(cloud.positions, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"], strict=True)
    assert cloud.colors is None
    assert cloud.source.form == f"PCD, {encoding.value}"
    assert cloud.source.fields == ("x", "y", "z", "intensity", "ring")


def test_texts_of_pypcd4_are_read_to_their_tenth_digit(tmp_path: Path) -> None:
    fields = sweep()
    cloud = read_cloud(write_pcd(tmp_path / "a.pcd", fields, Encoding.ASCII))
    # Half a unit of the tenth decimal, which it rounds to, and of float32 where that is coarser.
    np.testing.assert_allclose(cloud.xyz, xyz_of(fields), rtol=6e-8, atol=5.1e-11)


@pytest.mark.parametrize("height", [1, 4])
@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_all_types_counts_and_paddings_by_hand(tmp_path: Path, encoding: str, height: int) -> None:
    fields = sweep()
    rng = np.random.default_rng(1)
    fields = {
        "histogram": rng.random((len(fields["x"]), 3)).astype(np.float32),
        "_1": rng.integers(0, 255, len(fields["x"])).astype(np.uint8),
        **{name: fields[name].astype(np.float64) / 3 for name in "xyz"},
        "_2": rng.integers(0, 255, (len(fields["x"]), 5)).astype(np.uint8),
        "intensity": rng.integers(-100, 100, len(fields["x"])).astype(np.int16),
        "t": np.arange(len(fields["x"]), dtype=np.uint64),
    }
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(fields, encoding, height))
    cloud = read_cloud(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.positions, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields).astype(np.float32), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"].astype(np.float32))
    assert cloud.source.fields == ("histogram", "x", "y", "z", "intensity", "t")


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_points_without_a_place_stay_where_they_are(tmp_path: Path, encoding: str) -> None:
    fields = sweep()
    fields["x"][3], fields["y"][5], fields["intensity"][7] = np.nan, np.inf, np.nan
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(fields, encoding, height=4))
    cloud = read_cloud(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.positions, xyz_of(fields))
    assert np.flatnonzero(~cloud.finite).tolist() == [3, 5]
    assert np.isnan(cloud.needed_intensity()[7])
    assert f"2 of {len(cloud)} points are not finite" in cloud.source.notes


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
@pytest.mark.parametrize(
    ("name", "dtype", "alpha"),
    [("rgb", np.uint32, 0), ("rgba", np.uint32, 255), ("rgb", np.float32, 0)],
)
def test_packed_colours(
    tmp_path: Path, name: str, dtype: type[np.generic], alpha: int, encoding: str
) -> None:
    fields = colored()
    red, green, blue = (fields[c].astype(np.uint32) for c in ("red", "green", "blue"))
    packed = (np.uint32(alpha) << 24 | red << 16 | green << 8 | blue).astype(np.uint32)
    kept = {axis: fields[axis] for axis in "xyz"} | {name: packed.view(dtype)}
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(kept, encoding))
    cloud = read_cloud(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.colors, colors_of(fields), strict=True)


def test_a_packed_colour_that_a_text_calls_nan_is_black(tmp_path: Path) -> None:
    fields = {axis: colored()[axis] for axis in "xyz"}
    fields["rgb"] = np.full(len(fields["x"]), np.nan, np.float32)
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(fields, "ascii"))
    colors = read_cloud(tmp_path / "a.pcd").needed_colors()
    assert not colors.any()


def test_fields_of_other_names_are_asked_for(tmp_path: Path) -> None:
    fields = sweep()
    renamed = dict(zip(["px", "y", "z", "amplitude"], fields.values(), strict=False))
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(renamed))
    with pytest.raises(CloudError, match=r"a\.pcd: the points have no x, only px, y, z, ampl"):
        read_cloud(tmp_path / "a.pcd")
    cloud = read_cloud(tmp_path / "a.pcd", Reading(columns="x=px, intensity=amplitude"))
    np.testing.assert_array_equal(cloud.xyz, xyz_of(fields), strict=True)
    np.testing.assert_array_equal(cloud.intensity, fields["intensity"], strict=True)
    with pytest.raises(CloudError, match=r"a\.pcd: no field 'qx' to take as x, only px, y"):
        read_cloud(tmp_path / "a.pcd", Reading(columns="x=qx"))
    with pytest.raises(CloudError, match="'weight=px' is not understood: expected one of x, y"):
        read_cloud(tmp_path / "a.pcd", Reading(columns="weight=px"))
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(fields))
    with pytest.raises(CloudError, match="its fields have names, and 'x y z intensity' is a list"):
        read_cloud(tmp_path / "a.pcd", Reading(columns="x y z intensity"))


def test_a_compressed_file_may_be_longer_than_its_points(tmp_path: Path) -> None:
    """As PCL makes it, which fills its last page."""
    path = write_pcd(tmp_path / "a.pcd", coarse_sweep(), Encoding.BINARY_COMPRESSED)
    path.write_bytes(path.read_bytes() + bytes(4096))
    np.testing.assert_array_equal(read_cloud(path).xyz, xyz_of(coarse_sweep()))


@pytest.mark.parametrize("period", [1, 2, 7, 300, 8000])
def test_lzf_is_what_its_own_library_makes(period: int) -> None:
    """Repetitions of every length and distance, those that run into what they make as well."""
    rng = np.random.default_rng(period)
    piece = rng.integers(0, 256, period, np.uint8).tobytes()
    content = (piece * (20_000 // period + 2) + rng.integers(0, 4, 3000, np.uint8).tobytes())[
        :20_000
    ]
    packed = lzf.compress(content)
    assert decompress_lzf(packed, len(content)) == content
    for wrong in (packed[:-1], packed + b"\0", packed[1:]):
        with pytest.raises(ValueError, match="compressed bytes make|before the first"):
            decompress_lzf(wrong, len(content))


ONE = {name: values[:1] for name, values in sweep().items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ply\nformat ascii 1.0\n", "not a PCD file but a PLY file"),
        (b"PK\x03\x04" + bytes(90), "not a PCD file but a zip archive"),
        (b"\x00\x01" * 300, "not a PCD file, or one whose header is damaged at byte 0"),
        (pcd_bytes(ONE)[:70], r"damaged at byte \d+: expected its lines from VERSION to DATA"),
        (pcd_bytes(ONE).replace(b"WIDTH", b"BREADTH"), "whose header is damaged at byte"),
        (pcd_bytes(ONE, TYPE=""), "the header has no TYPE"),
        (pcd_bytes(ONE, SIZE="4 4"), "have 5, 2, 5 and 5 entries, expected as many of each"),
        (
            pcd_bytes(ONE, TYPE="F F F X U"),
            "field 'intensity' of TYPE X, SIZE 4, COUNT 1: ",
        ),
        (pcd_bytes(ONE, SIZE="4 4 4 3 2"), "field 'intensity' of TYPE F, SIZE 3"),
        (pcd_bytes(ONE, COUNT="1 1 1 1 999999999"), "COUNT 999999999: expected F of"),
        (pcd_bytes(ONE, FIELDS="x y z z ring"), "the header has the field 'z' twice"),
        (pcd_bytes(ONE, DATA="zipped"), "DATA 'zipped', expected one of ascii, binary, binary_co"),
        (pcd_bytes(ONE, POINTS="many"), "POINTS 'many', expected a whole number"),
        (pcd_bytes(ONE, POINTS="9" * 5000), "POINTS '9+', expected a whole number"),
        (pcd_bytes(ONE, POINTS="2"), "the header says POINTS 2, but WIDTH times HEIGHT is 1"),
        (pcd_bytes(ONE, POINTS="", WIDTH=""), "the header has neither POINTS nor WIDTH"),
        (pcd_bytes(ONE, POINTS="0", WIDTH="0"), "no points in it, says its header"),
        (pcd_bytes(ONE, FIELDS="a b c d e"), "the points have no x, y, z, only a, b, c, d, e"),
        (pcd_bytes(ONE)[:-1], "1 points of 18 bytes need 18, found 17: cut off"),
        (pcd_bytes(ONE) + bytes(18), "need 18, found 36: cut off, or the header is of another"),
        (pcd_bytes(ONE, "ascii") + b"1 2 3 4 5\n", "expected 1 points of 5 numbers, found"),
        (pcd_bytes(ONE, "ascii").replace(b"ascii\n", b"ascii\none"), "points that are no numbers"),
        (pcd_bytes(ONE, DATA="binary_compressed")[:-16], "ends where its compressed points begin"),
        (pcd_bytes(ONE, DATA="binary_compressed"), "and its compressed points are [0-9,]+: the he"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.pcd").write_bytes(content)
    with pytest.raises(CloudError, match=rf"a\.pcd: .*{message}") as caught:
        read_cloud(tmp_path / "a.pcd")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_a_header_that_claims_more_than_there_is_makes_nothing(
    tmp_path: Path, encoding: str
) -> None:
    points = str(10**12)
    content = pcd_bytes(ONE, encoding, POINTS=points, WIDTH=points)
    (tmp_path / "a.pcd").write_bytes(content + bytes(8))
    tracemalloc.start()
    try:
        with pytest.raises(CloudError, match=r"a\.pcd: .*(do not fit into|need)"):
            read_cloud(tmp_path / "a.pcd")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_compressed_points_that_are_cut_off_or_damaged(tmp_path: Path) -> None:
    path = write_pcd(tmp_path / "a.pcd", coarse_sweep(), Encoding.BINARY_COMPRESSED)
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(CloudError, match=r"a\.pcd: [\d,]+ bytes of compressed points, found"):
        read_cloud(path)
    begin = content.index(b"DATA binary_compressed\n") + 31
    path.write_bytes(content[:begin] + b"\xff" * 9 + content[begin + 9 :])
    with pytest.raises(CloudError, match=r"a\.pcd: the compressed points are damaged"):
        read_cloud(path)
