"""Noise residual, its histogram and divergence."""

import os

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import ants
import numpy as np
import pytest
from scipy import ndimage

from realdeal.errors import InputError
from realdeal.metrics import noise

SHAPE = (40, 44, 38)


@pytest.fixture(scope="module")
def phantom():
    """Clean magnitudes, white matter and ventricles of a ball with a hollow."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    texture = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(SHAPE), 3)
    clean = np.where(radius < 0.85, 1.3 + 0.05 * texture / texture.std(), 0)
    clean[radius < 0.35] = 0.4
    white = (radius > 0.45) & (radius < 0.75) & (axes[0] > -0.2)
    return clean, white, radius < 0.25


def _scan(phantom, sigma, seed=0):
    clean = phantom[0]
    parts = sigma * np.random.default_rng(seed).standard_normal((2, *SHAPE))
    scan = np.hypot(clean + parts[0], parts[1])
    return (np.where(clean > 0, scan, 0) - 1).astype(np.float32)


@pytest.mark.parametrize("model", noise.MODELS)
def test_equals_denoising_the_whole(phantom, model):
    volume = _scan(phantom, 0.04)
    image = ants.from_numpy((volume + 1) * noise.UNITS)
    whole = ants.denoise_image(image, shrink_factor=1, p=1, r=2, noise_model=model)
    expected = (volume + 1) - whole.numpy() / noise.UNITS
    for region in phantom[1:]:
        found = noise.noise_residual(volume, region, model)
        assert np.abs(found - expected)[region].max() < 1e-4
        assert not found[~region].any()


def test_planted_noise_is_recovered(phantom):
    """The filter keeps part of the noise: what it finds grows in proportion to what is planted."""
    shares = []
    for sigma in (0.03, 0.06):
        residual = noise.noise_residual(_scan(phantom, sigma), phantom[1], "Rician")
        shares.append(residual[phantom[1]].std() / sigma)
    print(f"planted noise found: {np.round(shares, 3)}")
    assert 0.6 < min(shares) and max(shares) < 1.2
    assert shares[1] == pytest.approx(shares[0], rel=0.2)


def test_divergence_orders_scans_by_their_noise(phantom):
    def counts(sigma, seed):
        residual = noise.noise_residual(_scan(phantom, sigma, seed), phantom[1], "Rician")
        return noise.histogram(residual[phantom[1]], 64, (-0.15, 0.15))

    original = counts(0.04, 0)
    again, smooth, smoother = counts(0.04, 1), counts(0.02, 2), counts(0.005, 3)
    divergences = [noise.kl_divergence(original, c, 1.0) for c in (again, smooth, smoother)]
    assert divergences[0] < 0.05 < divergences[1] < divergences[2]


def test_divergence_by_hand():
    # Laplace smoothing turns (3, 1) into (4/6, 2/6) and (0, 4) into (1/6, 5/6).
    expected = 4 / 6 * np.log(4) + 2 / 6 * np.log(2 / 5)
    assert noise.kl_divergence([3, 1], [0, 4], 1) == pytest.approx(expected)
    assert noise.kl_divergence([3, 1], [3, 1], 0) == 0
    assert noise.kl_divergence([4, 0], [2, 2], 0) == pytest.approx(np.log(2))
    assert noise.kl_divergence([3, 1], [0, 4], 0) == np.inf
    many = noise.kl_divergence(np.tile([3, 1], (5, 1)), np.tile([0, 4], (5, 1)), 1)
    np.testing.assert_allclose(many, expected)


def test_outliers_fall_in_the_end_bins():
    counts = noise.histogram(np.array([-9, -0.9, 0.1, 0.2, 1, 9]), 4, (-1, 1))
    assert counts.tolist() == [2, 0, 2, 2]


def test_bad_input(phantom):
    volume, region = _scan(phantom, 0.04), phantom[1]
    broken = volume.copy()
    broken[0, 0, 0] = np.nan
    for arguments, message in (
        ((volume, np.zeros(SHAPE, bool), "Rician"), "empty"),
        ((volume[1:], region, "Rician"), "differ in shape"),
        ((volume, region, "Poisson"), "none of"),
        ((broken, region, "Rician"), "NaN"),
        ((np.zeros(SHAPE), region, "Rician"), "constant"),
    ):
        with pytest.raises(InputError, match=message):
            noise.noise_residual(*arguments)
    with pytest.raises(InputError, match="bins"):
        noise.kl_divergence([1, 2], [1, 2, 3], 1)
    with pytest.raises(InputError, match="at least one count"):
        noise.kl_divergence([0, 0], [1, 2], 1)
