"""FID, coverage and density against pytorch-fid, prdc and hand-computed cases."""

import warnings

import numpy as np
import pytest
from prdc import compute_prdc

from realdeal.errors import InputError
from realdeal.metrics import distribution
from realdeal.metrics.weights import import_torchvision


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_frechet_by_hand():
    # One dimension: (m1 - m2)^2 + (s1 - s2)^2.
    first, second = (
        distribution.Gaussian(np.array([m]), np.array([[s**2]]), 100)
        for m, s in ((1.0, 3.0), (4.0, 1.0))
    )
    assert distribution.frechet_distance(first, second) == pytest.approx(9 + 4)
    # Commuting covariances in two dimensions.
    first = distribution.Gaussian(np.zeros(2), np.diag([4.0, 1.0]), 100)
    second = distribution.Gaussian(np.ones(2), np.diag([1.0, 9.0]), 100)
    assert distribution.frechet_distance(first, second) == pytest.approx(2 + 1 + 4)


def test_frechet_equals_pytorch_fid(rng):
    import_torchvision()
    from pytorch_fid.fid_score import calculate_frechet_distance

    first = rng.standard_normal((500, 48)) @ rng.standard_normal((48, 48))
    second = rng.standard_normal((400, 48)) * 2 + 1
    a, b = distribution.gaussian(first), distribution.gaussian(second)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = calculate_frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert distribution.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert distribution.frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)
    assert distribution.frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


def test_few_samples_are_flagged(rng):
    few, many = rng.standard_normal((20, 32)), rng.standard_normal((200, 32))
    assert distribution.gaussian(few).rank_deficient
    with pytest.warns(UserWarning, match="rank deficient"):
        assert np.isfinite(distribution.frechet_distance(few, many))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distribution.frechet_distance(many, many[::2] + 1)


def test_indefinite_covariance_is_refused():
    good = distribution.Gaussian(np.zeros(2), np.eye(2), 10)
    bad = distribution.Gaussian(np.zeros(2), np.diag([1.0, -0.5]), 10)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(InputError, match="not a covariance"):
            distribution.frechet_distance(*pair)


def test_subject_sums_give_any_resample(rng):
    features = (rng.standard_normal((4, 30, 8)) + 50).astype(np.float32)
    weights = np.array([2, 0, 1, 1])
    found = distribution.SubjectSums(features).gaussian(weights)
    expected = distribution.gaussian(np.concatenate(features[[0, 0, 2, 3]]))
    np.testing.assert_allclose(found.mean, expected.mean)
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-8)
    assert found.n == expected.n


def _sets(rng, kind, dtype):
    if kind == "normal":
        return rng.standard_normal((120, 16)), 0.9 * rng.standard_normal((90, 16))
    if kind == "duplicates":
        real = rng.integers(-9, 9, (120, 6))
        real[60:80] = real[:20]
        return real, np.concatenate([real[:40], rng.integers(-9, 9, (50, 6))])
    return rng.integers(0, 3, (120, 4)), rng.integers(0, 3, (90, 4))  # many equal distances


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["normal", "duplicates", "ties"])
def test_coverage_and_density_equal_prdc(rng, kind, dtype):
    real, fake = (s.astype(dtype) for s in _sets(rng, kind, dtype))
    neighbours = [1, 5, 20, 88]  # prdc takes k below the number of either set, less 1
    groups = rng.integers(0, 4, len(fake))
    found = distribution.neighbourhood(real, fake, neighbours, groups, megabytes=0.02)
    for i, k in enumerate(neighbours):
        expected = compute_prdc(real, fake, k)
        assert found.coverage()[i] == expected["coverage"]
        assert found.density()[i] == pytest.approx(expected["density"], rel=1e-12)
    single = distribution.neighbourhood(real, fake, 5)
    assert single.coverage()[0] == found.coverage()[1]


def test_largest_k_by_brute_force(rng):
    real, fake = rng.standard_normal((12, 3)), 2 * rng.standard_normal((7, 3))
    found = distribution.neighbourhood(real, fake, 11)
    radii = np.linalg.norm(real[:, None] - real, axis=2).max(axis=1)
    inside = np.linalg.norm(real[:, None] - fake, axis=2) < radii[:, None]
    assert found.coverage()[0] == inside.any(axis=1).mean()
    assert found.density()[0] == pytest.approx(inside.sum() / 11 / 7)


@pytest.mark.parametrize("k", [0, 12, 40])
def test_impossible_k(rng, k):
    real = rng.standard_normal((12, 3))
    with pytest.raises(InputError, match="between 1 and 11"):
        distribution.neighbourhood(real, real, [5, k])


def test_resampled_subjects(rng):
    real, fake = rng.standard_normal((60, 5)), rng.standard_normal((80, 5))
    reals, fakes = np.arange(60) // 20, np.arange(80) // 20
    found = distribution.neighbourhood(real, fake, [3, 5], fakes)
    weights = np.array([[1, 1, 1], [2, 0, 1]]), np.array([[1, 1, 1, 1], [0, 3, 1, 0]])
    coverage, density = distribution.resample_neighbourhood(found, reals, *weights)
    np.testing.assert_allclose(coverage[0], found.coverage())
    np.testing.assert_allclose(density[0], found.density())
    chosen = np.concatenate([np.flatnonzero(reals == s) for s in (0, 0, 2)])
    drawn = found.hits[:, chosen][:, :, [1, 1, 1, 2]]
    np.testing.assert_allclose(coverage[1], (drawn.sum(axis=2) > 0).mean(axis=1))
    np.testing.assert_allclose(density[1], drawn.sum(axis=(1, 2)) / np.array([3, 5]) / 80)


def test_bad_features(rng):
    good = rng.standard_normal((30, 4))
    broken = good.copy()
    broken[3, 1] = np.nan
    for call in (
        lambda: distribution.frechet_distance(good, broken),
        lambda: distribution.neighbourhood(broken, good, 3),
        lambda: distribution.SubjectSums(broken[None]),
    ):
        with pytest.raises(InputError, match="NaN"):
            call()
    with pytest.raises(InputError, match="dimensions"):
        distribution.neighbourhood(good, good[:, :3], 3)
    with pytest.raises(InputError, match="dimensions"):
        distribution.frechet_distance(good, good[:, :3])
    with pytest.raises(InputError, match="at least 2"):
        distribution.gaussian(good[:1])
