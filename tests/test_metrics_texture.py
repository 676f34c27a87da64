"""HOG against scikit-image."""

import numpy as np
import pytest
from skimage.feature import hog as reference_hog

from realdeal.errors import InputError
from realdeal.metrics import texture


def test_hand_computed():
    """A ramp of slope 1 along the rows: magnitude 2 inside, direction 0, 0 on the border."""
    ramp = np.tile(np.arange(16.0), (1, 16, 1))
    histograms = texture.cell_histograms(ramp, 9, 8)
    expected = np.zeros((1, 2, 2, 9))
    expected[..., 0] = 2 * 7 / 8
    np.testing.assert_allclose(histograms, expected)
    up = texture.cell_histograms(ramp.transpose(0, 2, 1), 9, 8)
    assert (up[..., 4] == 2 * 7 / 8).all()  # 90 degrees lies in bin 80-100


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("side", "orientations", "cell", "block"),
    [(64, 9, 8, 3), (32, 9, 8, 1), (50, 8, 7, 2), (40, 4, 8, 2), (41, 6, 5, 3)],
)
def test_equals_scikit_image(dtype, side, orientations, cell, block):
    rng = np.random.default_rng(side)
    patches = rng.uniform(-1, 1, (8, side, side + 3)).astype(dtype)
    patches[0, :20] = -1  # background: gradients of exactly 0
    patches[1] = np.round(3 * patches[1])  # gradients at exactly 45 and 90 degrees
    patches[2] = 1e-4 * np.round(patches[2])  # length comparable with the epsilon
    patches[3] = -1
    found = texture.hog(patches, orientations, cell, block)
    for patch, ours in zip(patches, found, strict=True):
        expected = reference_hog(
            patch,
            orientations,
            (cell, cell),
            (block, block),
            block_norm="L2-Hys",
            feature_vector=False,
        )
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_chunks_do_not_matter(monkeypatch):
    patches = np.random.default_rng(1).uniform(-1, 1, (9, 32, 32))
    whole = texture.hog(patches)
    monkeypatch.setattr(texture, "CHUNK", 2 * 32 * 32)
    np.testing.assert_array_equal(texture.hog(patches), whole)


def test_distance_by_region():
    rng = np.random.default_rng(2)
    first, second = rng.uniform(-1, 1, (2, 3, 64, 64))
    a, b = texture.hog(first), texture.hog(second)
    expected = np.linalg.norm((a - b).reshape(3, -1), axis=1)
    np.testing.assert_allclose(texture.hog_distance(a, b), expected)
    masks = np.zeros((3, 64, 64), bool)
    masks[0, 12, 12] = True  # the centre of the first block of 3x3 cells of 8 pixels
    masks[1, 12, 13] = True  # beside a centre
    masks[2] = True
    inside = texture.blocks_inside(masks)
    assert inside.sum(axis=(1, 2)).tolist() == [1, 0, 36]
    distances = texture.hog_distance(a, b, inside)
    np.testing.assert_allclose(distances, [np.linalg.norm(a[0, 0, 0] - b[0, 0, 0]), expected[2]])
    assert texture.hog_distance(a, a).max() == 0
    assert not len(texture.hog_distance(a, b, np.zeros_like(inside)))


def test_bad_input():
    with pytest.raises(InputError, match="too small for blocks"):
        texture.hog(np.zeros((1, 16, 16)))
    with pytest.raises(InputError, match="no side below"):
        texture.hog(np.zeros((1, 7, 64)))
    with pytest.raises(InputError, match="NaN"):
        texture.hog(np.full((1, 32, 32), np.nan))
    with pytest.raises(InputError, match="differ in shape"):
        texture.hog_distance(np.zeros((1, 2, 2, 1, 1, 9)), np.zeros((2, 2, 2, 1, 1, 9)))
