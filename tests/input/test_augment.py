"""Augmentation: what each transformation preserves, its bounds, and its edges."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.datasets.projection import Pairs
from uov_jax.input import augment
from uov_jax.input.augment import Crop, CropSettings

IMAGE = (900, 1600)


def cloud(points: int = 5000, seed: int = 0) -> np.ndarray:
    scale = np.array([30, 20, 2], np.float32)
    return np.random.default_rng(seed).normal(size=(points, 3)).astype(np.float32) * scale


def random_pairs(points: int, count: int, cameras: int = 6, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    columns = (
        rng.integers(0, points, count),
        np.sort(rng.integers(0, cameras, count)),
        rng.integers(0, IMAGE[0], count),
        rng.integers(0, IMAGE[1], count),
    )
    return Pairs(*(column.astype(np.int32) for column in columns))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_scale_keeps_directions_and_range():
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    factors = []
    for seed in range(200):
        factor = augment.scale(np.random.default_rng(seed), 0.6, 1.05)
        scaled = augment.move(points, factor=factor)
        np.testing.assert_array_equal(scaled, points * np.float32(factor))
        assert scaled.dtype == np.float32
        factors.append(factor)
    assert 0.6 <= min(factors) < 0.63
    assert 1.02 < max(factors) <= 1.05


def test_rotation_keeps_height_radius_and_handedness():
    xyz = cloud()
    turned = augment.move(xyz, augment.rotate_about_z(generator()))
    assert turned.dtype == np.float32
    np.testing.assert_array_equal(turned[:, 2], xyz[:, 2])
    np.testing.assert_allclose(
        np.hypot(turned[:, 0], turned[:, 1]), np.hypot(xyz[:, 0], xyz[:, 1]), rtol=1e-5
    )
    before = xyz[0, 0] * xyz[1, 1] - xyz[0, 1] * xyz[1, 0]
    after = turned[0, 0] * turned[1, 1] - turned[0, 1] * turned[1, 0]
    assert after == pytest.approx(before, rel=1e-4)


def test_rotation_angles_cover_the_circle_evenly():
    rng = generator()
    point = np.array([[1, 0, 0]], np.float32)
    turned = np.concatenate([augment.move(point, augment.rotate_about_z(rng)) for _ in range(2000)])
    quadrants = np.histogram(np.arctan2(turned[:, 1], turned[:, 0]), 4, (-np.pi, np.pi))[0]
    assert quadrants.min() > 430


def test_flips_occur_for_each_axis_half_of_the_time():
    rng = generator()
    signs = np.concatenate(
        [
            augment.move(np.ones((1, 3), np.float32), signs=augment.flip_axes(rng))
            for _ in range(999)
        ]
    )
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert (signs[:, 2] == 1).all()
    for x, y in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
        assert 200 < ((signs[:, 0] == x) & (signs[:, 1] == y)).sum() < 300


def test_a_move_is_turned_then_mirrored_then_scaled_and_rounded_after_each():
    """As a product with fused multiply-adds gives it, on any processor."""
    wide = np.random.default_rng(3).normal(size=(4000, 5)).astype(np.float32) * np.float32(40)
    turn = cosine, sine = augment.rotate_about_z(generator(1))
    x, y, z = wide[:, :3].astype(np.float64).T
    first = (x * cosine).astype(np.float32), (x * sine).astype(np.float32)
    # The products of two float32 are exact in float64, and so is rounding their sum once, but for
    # one sum in 2^29.
    turned = np.stack([first[0] - y * sine, first[1] + y * cosine, z], axis=1).astype(np.float32)
    expected = turned * np.array([-1, 1, 1], np.float32) * np.float32(0.7)
    np.testing.assert_array_equal(augment.move(wide, turn, (-1.0, 1.0), 0.7), expected)
    np.testing.assert_array_equal(augment.move(wide), wide[:, :3])


def test_the_cuboid_takes_points_and_their_pairs_and_nothing_else():
    xyz, pairs = cloud(), random_pairs(5000, 20_000)
    dropped_any = False
    for seed in range(20):
        rows, kept = augment.drop_cuboid(xyz, pairs, 6, generator(seed))
        rows = np.arange(5000) if rows is None else rows
        dropped = np.setdiff1d(np.arange(5000), rows)
        dropped_any |= dropped.size > 0
        assert (np.diff(rows) > 0).all()
        if dropped.size:
            low, high = xyz[dropped].min(axis=0), xyz[dropped].max(axis=0)
            assert (high - low <= 0.2 * np.ptp(xyz, axis=0)).all()
            # no point strictly between the dropped ones' corners is kept
            assert not ((xyz[rows] > low) & (xyz[rows] < high)).all(axis=1).any()
        survivors = np.isin(pairs.point, rows)
        np.testing.assert_array_equal(rows[kept.point], pairs.point[survivors])
        np.testing.assert_array_equal(kept.u, pairs.u[survivors])
    assert dropped_any


def test_nothing_is_dropped_where_a_camera_would_keep_too_few_pairs():
    xyz, pairs = cloud(), random_pairs(5000, 20_000)
    enough = pairs.select((pairs.camera != 3) | (np.cumsum(pairs.camera == 3) <= 1024))
    assert (enough.camera == 3).sum() == 1024
    untouched = 0
    for seed in range(20):
        rows, kept = augment.drop_cuboid(xyz, enough, 6, generator(seed))
        assert (kept.camera == 3).sum() == 1024
        untouched += rows is None and kept is enough
    assert untouched > 10
    rows, kept = augment.drop_cuboid(xyz, pairs.select(pairs.camera != 5), 6, generator())
    assert rows is None  # a camera without any pair


def test_the_cuboid_of_no_points_is_nothing():
    nothing = random_pairs(1, 0)
    rows, kept = augment.drop_cuboid(np.zeros((0, 3), np.float32), nothing, 6, generator())
    assert (rows, kept) == (None, nothing)


def test_crops_lie_in_the_image_with_area_and_aspect_in_range():
    rng, settings = generator(), CropSettings()
    crops = [augment.draw_crop(IMAGE, settings, rng) for _ in range(2000)]
    for crop in crops:
        assert 0 <= crop.top <= crop.top + crop.height <= IMAGE[0]
        assert 0 <= crop.left <= crop.left + crop.width <= IMAGE[1]
        # sides are rounded to pixels
        assert 14 / 9 - 0.01 < crop.width / crop.height < 17 / 9 + 0.01
        assert 0.295 < crop.width * crop.height / (900 * 1600) <= 1
    areas = np.array([crop.width * crop.height for crop in crops]) / (900 * 1600)
    assert areas.min() < 0.32
    assert areas.max() > 0.93
    assert min(crop.top for crop in crops) == 0


def test_where_no_crop_fits_the_largest_centred_one_is_taken():
    settings = CropSettings(area=(1.0, 1.0), aspect=(4.0, 4.0))
    assert augment.draw_crop((100, 100), settings, generator()) == Crop(37, 0, 25, 100)
    settings = CropSettings(area=(1.0, 1.0), aspect=(0.25, 0.25))
    assert augment.draw_crop((100, 100), settings, generator()) == Crop(0, 37, 100, 25)


def test_cropping_keeps_the_pairs_inside_at_their_own_pixels():
    pairs = random_pairs(5000, 20_000)
    kept, crops = augment.crop_images(pairs, [IMAGE] * 6, CropSettings(), generator())
    assert 0.3 < len(kept.point) / 20_000 < 1
    for camera, crop in enumerate(crops):
        own = kept.select(kept.camera == camera)
        before = pairs.select(pairs.camera == camera)
        # half a small pixel lies around each edge, so the decision is sharp but for that
        inside = (before.v > crop.top) & (before.v < crop.top + crop.height * (1 - 1 / 224))
        inside &= (before.u > crop.left) & (before.u < crop.left + crop.width * (1 - 1 / 416))
        assert set(zip(*before.select(inside), strict=True)) <= set(zip(*own, strict=True))
        assert set(zip(*own, strict=True)) <= set(zip(*before, strict=True))
        assert (own.v >= crop.top - 2).all()
        assert (own.v <= crop.top + crop.height).all()
        row, column = augment.small_pixels(own, crop, (224, 416))
        assert row.min() >= 0
        assert row.max() < 224
        assert column.min() >= 0
        assert column.max() < 416


@pytest.mark.parametrize("image", [IMAGE, (90, 160), (3, 5000), (225, 417)])
def test_a_crop_keeps_what_rounds_into_the_small_image(image):
    """Every pixel of the image, and some around it, by the rounding itself."""
    rng, settings = generator(2), CropSettings()
    v, u = (np.arange(-9, extent + 9, dtype=np.int32) for extent in image)
    for _ in range(50):
        crop = augment.draw_crop(image, settings, rng)
        begin, end, left, right = augment._window(crop, settings.size)
        for places, first, last, start, length, size in (
            (v, begin, end, crop.top, crop.height, settings.size[0]),
            (u, left, right, crop.left, crop.width, settings.size[1]),
        ):
            small = np.round((places - start) * (size / length))
            expected = (small >= 0) & (small < size)
            np.testing.assert_array_equal((places >= first) & (places < last), expected)


def test_pairs_beyond_the_points_or_cameras_are_refused():
    pairs = random_pairs(10, 50)
    with pytest.raises(ValueError, match=r"a pair of point \d, there are 5"):
        augment.drop_cuboid(cloud(5), pairs, 6, generator(), fewest_pairs=0)
    with pytest.raises(ValueError, match="a pair of camera 3, there are 3"):
        augment.crop_images(pairs, [IMAGE] * 3, CropSettings(attempts=0), generator())


def test_lookup_at_the_small_pixel_equals_the_resized_mask_map():
    """The reference crops and resizes the map itself; positions alone must give the same ids."""
    masks = np.random.default_rng(1).integers(0, 5, IMAGE)
    pairs = random_pairs(5000, 20_000, cameras=1)
    settings = CropSettings(at_small_pixel=True)
    for seed in range(5):
        kept, (crop,) = augment.crop_images(pairs, [IMAGE], settings, generator(seed))
        plain, (same,) = augment.crop_images(pairs, [IMAGE], CropSettings(), generator(seed))
        assert crop == same
        np.testing.assert_array_equal(kept.point, plain.point)
        cut = masks[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        # torch's nearest-neighbour resizing takes floor(index * scale)
        rows = np.floor(np.arange(224) * (crop.height / 224)).astype(int)
        columns = np.floor(np.arange(416) * (crop.width / 416)).astype(int)
        small = cut[rows][:, columns]
        row, column = augment.small_pixels(plain, crop, (224, 416))
        np.testing.assert_array_equal(masks[kept.v, kept.u], small[row, column])
        assert np.abs(kept.v - plain.v).max() <= 5
        assert np.abs(kept.u - plain.u).max() <= 5


def test_sparse_cameras_end_with_the_whole_image():
    """The reference would draw for ever on a camera without pairs."""
    one = Pairs(*(np.array([value], np.int32) for value in (0, 0, 0, 1599)))
    kept, crops = augment.crop_images(one, [IMAGE] * 3, CropSettings(attempts=0), generator())
    assert crops == [Crop(0, 0, *IMAGE)] * 3
    assert len(kept.point) == 0  # column 1599 rounds to 416, past the small image
    middle = one._replace(v=np.array([450], np.int32), u=np.array([800], np.int32))
    kept, crops = augment.crop_images(middle, [IMAGE] * 3, CropSettings(), generator())
    assert kept.point.tolist() == [0]
    assert crops[1:] == [Crop(0, 0, *IMAGE)] * 2


def test_a_crop_is_redrawn_until_enough_pairs_remain():
    rng = np.random.default_rng(0)
    count = 1000  # below 1024, so that more than 75 % must remain
    corner = Pairs(
        np.arange(count, dtype=np.int32),
        np.zeros(count, np.int32),
        rng.integers(600, 890, count).astype(np.int32),
        rng.integers(1200, 1590, count).astype(np.int32),
    )
    for seed in range(20):
        kept, _ = augment.crop_images(corner, [IMAGE], CropSettings(), generator(seed))
        assert len(kept.point) > 750


@pytest.mark.parametrize("function", ["move", "drop_cuboid", "crop_images"])
def test_functions_are_pure(function):
    def run(rng):
        xyz, pairs = cloud(), random_pairs(5000, 20_000)
        inputs = xyz.copy(), Pairs(*(column.copy() for column in pairs))
        if function == "drop_cuboid":
            result = augment.drop_cuboid(xyz, pairs, 6, rng)
        elif function == "crop_images":
            result = augment.crop_images(pairs, [IMAGE] * 6, CropSettings(), rng)
        else:
            result = augment.move(xyz, augment.rotate_about_z(rng), augment.flip_axes(rng))
        np.testing.assert_array_equal(xyz, inputs[0])
        for column, before in zip(pairs, inputs[1], strict=True):
            np.testing.assert_array_equal(column, before)
        return result

    assert repr(run(generator(3))) == repr(run(generator(3)))
    assert repr(run(generator(3))) != repr(run(generator(4)))
