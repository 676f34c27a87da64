"""Patch locations, sharpness and seams."""

import numpy as np
import pytest
from scipy import ndimage

from realdeal.errors import InputError
from realdeal.metrics.patches import draw_patches, extract
from realdeal.metrics.seam import seam_score
from realdeal.metrics.sharpness import sharpness


@pytest.fixture
def volume():
    return np.random.default_rng(0).standard_normal((40, 44, 36)).astype(np.float32)


@pytest.fixture
def mask():
    mask = np.zeros((40, 44, 36), bool)
    mask[0:30, 10:40, 20:36] = True  # touches two borders
    return mask


def test_patches_lie_inside_and_repeat(mask):
    drawn = draw_patches(mask, 24, 200, np.random.default_rng(3))
    again = draw_patches(mask, 24, 200, np.random.default_rng(3))
    other = draw_patches(mask, 24, 200, np.random.default_rng(4))
    for name in ("dim0", "dim1", "dim2", "volume"):
        np.testing.assert_array_equal(drawn[name], again[name])
        assert (drawn[name] != other[name]).any()
        size = np.full(3, 24)
        if name != "volume":
            size[int(name[3])] = 1
        assert drawn[name].shape == (200, 3)
        assert drawn[name].min() >= 0 and (drawn[name] + size <= mask.shape).all()
    for dim in range(3):  # the slice itself is never shifted
        occupied = mask.any(axis=tuple(a for a in range(3) if a != dim))
        assert occupied[drawn[f"dim{dim}"][:, dim]].all()


def test_centres_are_foreground_where_nothing_is_clipped():
    mask = np.zeros((40, 40, 40), bool)
    mask[20, 21, 22] = True
    drawn = draw_patches(mask, 16, 3, np.random.default_rng(0))
    assert (drawn["dim1"] == [12, 21, 14]).all() and (drawn["volume"] == [12, 13, 14]).all()


def test_small_volume_shortens_the_patch(mask):
    drawn = draw_patches(mask, 41, 5, np.random.default_rng(0))
    assert drawn["size"].tolist() == [40, 41, 36]
    cut = extract(mask, drawn["dim0"], drawn["size"], 0)
    assert cut.shape == (5, 41, 36)


def test_extract(volume, mask):
    drawn = draw_patches(mask, 24, 20, np.random.default_rng(0))
    for dim in range(3):
        cut = extract(volume, drawn[f"dim{dim}"], 24, dim)
        for patch, corner in zip(cut, drawn[f"dim{dim}"], strict=True):
            sides = np.where(np.arange(3) == dim, 1, 24)
            box = tuple(map(slice, corner, corner + sides))
            np.testing.assert_array_equal(patch, volume[box].squeeze(dim))
    with pytest.raises(InputError, match="leave the volume"):
        extract(volume[:20], drawn["dim1"], 24, 1)


def test_empty_mask():
    with pytest.raises(InputError, match="no foreground"):
        draw_patches(np.zeros((9, 9, 9)), 4, 5, np.random.default_rng(0))


def test_sharpness_equals_scipy_patch_by_patch(volume, mask):
    drawn = draw_patches(mask, 16, 30, np.random.default_rng(0))
    smooth = ndimage.gaussian_filter(volume.astype(float), 0.5)
    kernel = ndimage.generate_binary_structure(3, 1).astype(float)
    kernel[1, 1, 1] = -6
    laplacian = ndimage.convolve(smooth, kernel, mode="reflect")
    expected = np.mean(
        [laplacian[x : x + 16, y : y + 16, z : z + 16].var() for x, y, z in drawn["volume"]]
    )
    assert sharpness(volume, drawn["volume"], drawn["size"]) == pytest.approx(expected, rel=1e-9)


def test_sharpness_by_hand_and_under_blur(volume, mask):
    # A chequerboard v = (-1)^(x+y+z) has Laplacian -12 v; unsmoothed its variance is 144.
    board = (-1.0) ** np.add.reduce(np.indices((12, 12, 12)))
    assert sharpness(board, [[2, 2, 2]], 8, sigma=0) == pytest.approx(144)
    corners = draw_patches(mask, 16, 10, np.random.default_rng(0))["volume"]
    assert sharpness(ndimage.gaussian_filter(volume, 1), corners, 16) < 0.1 * sharpness(
        volume, corners, 16
    )
    assert sharpness(np.zeros((20, 20, 20)), [[0, 0, 0]], 16) == 0


def test_bad_sharpness_input(volume):
    with pytest.raises(InputError, match="do not fit"):
        sharpness(volume, [[30, 0, 0]], 16)
    with pytest.raises(InputError, match="NaN"):
        sharpness(np.full((20, 20, 20), np.nan), [[0, 0, 0]], 16)


def test_planted_seams(volume, mask):
    # Of constant jumps one can say the score beforehand.
    steps = np.arange(40.0)[:, None, None] * np.ones(mask.shape)
    steps += 2 * (np.arange(40) >= 16)[:, None, None] + 2 * (np.arange(40) >= 32)[:, None, None]
    steps += np.arange(44.0)[None, :, None] + np.arange(36.0)
    np.testing.assert_allclose(seam_score(steps, np.ones_like(mask), 16), [3, 1, 1])
    rest = steps[5:], np.ones_like(mask[5:])  # its planes lie at 11 and 27
    np.testing.assert_allclose(seam_score(*rest, 16, (11, 0, 0)), [3, 1, 1])
    assert seam_score(*rest, 16)[0] < 2
    clean = seam_score(volume, mask, 8)
    np.testing.assert_allclose(clean, 1, atol=0.1)
    seamed = volume.copy()
    seamed[:, :, 24:] += 2
    assert seam_score(seamed, mask, 8)[2] > 1.2
    np.testing.assert_allclose(seam_score(seamed, mask, 8)[:2], clean[:2])


def test_seams_outside_the_brain_do_not_count(volume, mask):
    seamed = volume.copy()
    seamed[:, :8] += 5  # the plane at 8 lies below the mask
    np.testing.assert_allclose(seam_score(seamed, mask, 8), seam_score(volume, mask, 8))


def test_bad_seam_input(volume, mask):
    # Of stride 36 only the second axis has a plane in the mask.
    assert np.isnan(seam_score(volume, mask, 36)).tolist() == [True, False, True]
    with pytest.raises(InputError, match="no plane"):
        seam_score(volume, mask, 50)
    with pytest.raises(InputError, match="constant"):
        seam_score(np.zeros(mask.shape), mask, 8)
    with pytest.raises(InputError, match="differ in shape"):
        seam_score(volume[1:], mask, 8)
    with pytest.raises(InputError, match="NaN"):
        seam_score(np.full(mask.shape, np.nan), mask, 8)
