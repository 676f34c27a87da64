"""The linear denoiser: against the conditional expectation of a Gaussian, computed densely."""

import numpy as np
import torch
from small_networks import SCHEDULE, small_unet

from realdeal.diffusion.conditioning import Conditioning
from realdeal.diffusion.linear import RIDGE, LinearDenoiser
from realdeal.diffusion.schedules import make_schedule, predicted_noise_and_clean
from realdeal.networks.unets import LatentUNet
from realdeal.training.ldm import latent_statistics


def fitted(modes=3, subjects=40, size=12):
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(subjects, 2, generator=rng)
    slopes = torch.randn(2, size, generator=rng)
    latents = features @ slopes + 0.3 * torch.randn(subjects, size, generator=rng)
    linear = LinearDenoiser(modes, size, 2)
    linear.fit(latents, features)
    return linear, latents, features, slopes


def test_slopes_are_those_of_ridge_regression():
    linear, latents, features, slopes = fitted()
    x = ((features - features.mean(0)) / features.std(0)).numpy().astype(np.float64)
    z = (latents - latents.mean(0)).numpy()
    expected = np.linalg.inv(x.T @ x + RIDGE * np.eye(2)) @ x.T @ z
    assert np.allclose(linear.slopes, expected, atol=1e-4)


def test_the_guess_is_the_conditional_expectation():
    """E[z0 | zt] = m + a S (a^2 S + s^2)^-1 (zt - a m) with S = U diag(l) U' + rest (1 - U U')."""
    linear, _, features, _ = fitted()
    modes, variances = linear.modes.double(), linear.variances[0].double()
    assert torch.allclose(modes @ modes.T, torch.eye(3, dtype=torch.float64), atol=1e-5)
    outside = torch.eye(12, dtype=torch.float64) - modes.T @ modes
    covariance = modes.T @ torch.diag(variances) @ modes + linear.rest[0].double() * outside
    mean = ((features[:5] - linear.centre) / linear.scale) @ linear.slopes
    assert_expected(linear, covariance, mean, features[:5])


def assert_expected(linear, covariance, mean, features, group=None):
    noisy = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    alpha = torch.tensor([0.9, 0.5, 0.1, 0.01, 0.999])
    made = linear(noisy, alpha, features, group)
    for i in range(5):
        a, s2 = alpha[i].double().sqrt(), 1 - alpha[i].double()
        gain = a * covariance @ torch.linalg.inv(a**2 * covariance + s2 * torch.eye(12))
        expected = mean[i].double() + gain @ (noisy[i].double() - a * mean[i].double())
        assert torch.allclose(made[i].double(), expected, atol=1e-4)


def test_groups_vary_in_their_own_ways():
    """The covariance of a group is that of its subjects, so far as its axes and the basis reach."""
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(60, 12, generator=rng)
    latents[:30, 0] *= 5
    latents[30:, 1] *= 5
    weights = torch.zeros(3, 60)
    weights[0] = weights[1, :30] = weights[2, 30:] = 1
    linear = LinearDenoiser(12, 12, 0, groups=3, axes=3)
    linear.fit(latents, latents.new_zeros(60, 0), weights)
    left = []
    for group, rows in enumerate((slice(60), slice(30), slice(30, 60))):
        z = (latents - latents.mean(0))[rows].double()
        scatter = z.T @ z / (len(z) * 59 / 60)
        values, vectors = torch.linalg.eigh(scatter)
        assert torch.allclose(linear.variances[group].double(), values[-3:].flip(0), rtol=1e-4)
        axes = vectors[:, -3:]
        left.append(values[:-3].sum() / 12)
        rest = (left[0] * left[group]).sqrt()
        inside = axes @ torch.diag(values[-3:]) @ axes.T
        covariance = inside + rest * (torch.eye(12) - axes @ axes.T)
        groups = torch.full((5,), group)
        mean = torch.zeros(5, 12)
        assert_expected(linear, covariance, mean, latents.new_zeros(5, 0), groups)


def test_weights_and_groups_of_levels():
    covariates = [
        {"name": "age", "range": [0, 1]},
        {"name": "pathology", "levels": ["healthy", "dementia"], "share": 0.1},
        {"name": "modality", "levels": ["T1w", "T2w", "PD"], "share": 0.2},
    ]
    conditioning = Conditioning(covariates, "concatenate", dropout=0.1)
    told = torch.tensor([[0.5, 0, 0], [0.1, 1, 2], [0.2, 1, 0]])
    group = conditioning.group(told)
    assert conditioning.groups == 7 and group.tolist() == [1, 6, 4]
    assert conditioning.group(told, torch.tensor([True, False, True])).tolist() == [1, 0, 4]
    weights = conditioning.weights(told)
    assert weights.shape == (7, 3) and (weights[0] == 1).all()
    expected = torch.tensor([[1, 0.02, 0.1], [0.02, 1, 0.2], [0.1, 0.2, 1]])
    assert torch.allclose(weights[group], expected)


def test_a_network_starts_as_the_linear_denoiser():
    """An untrained U-Net adds nothing, so the clean latents it implies are the linear guess."""
    covariates = [{"name": "age", "range": [0, 1]}, {"name": "sex", "levels": ["F", "M"]}]
    for prediction in ("v_prediction", "epsilon"):
        conditioning = Conditioning(covariates, "concatenate")
        assert conditioning.width == 3
        linear = LinearDenoiser(2, 64, 3)
        linear.fit(torch.randn(9, 64), torch.rand(9, 3))
        schedule = make_schedule(SCHEDULE, prediction)
        network = LatentUNet(small_unet(8, 8), 1, False, conditioning, linear, schedule)
        z, t = torch.randn(2, 1, 4, 4, 4), torch.tensor([300, 300])
        told = torch.tensor([[0.2, 1.0], [0.7, 0.0]])
        output = network(z, t, told)
        signal = float(schedule.alphas_cumprod[300])
        _, clean = predicted_noise_and_clean(output, z, signal, prediction)
        expected = linear(z, torch.full((2,), signal), conditioning.features(told))
        assert torch.allclose(clean, expected, atol=1e-4)


def test_latents_that_hardly_vary_are_not_blown_up(tmp_path):
    """Two subjects, one channel: voxels that vary by 0, 0.02, 0.3 and 0.5 around their mean."""
    spread = np.array([0, 0.02, 0.3, 0.5], np.float32).reshape(1, 1, 2, 2)
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path, sign in zip(paths, (-1, 1), strict=True):
        np.save(path, 0.5 + sign * spread)
    typical = float(np.sqrt((spread**2).mean()))
    mean, std, low, high = latent_statistics(paths, per_voxel=True, std_floor=0.5)
    assert torch.allclose(mean, torch.full_like(mean, 0.5))
    expected = np.maximum(spread, typical / 2)
    assert np.allclose(std, expected)
    assert np.allclose(low, 0.5 - spread) and np.allclose(high, 0.5 + spread)
    _, std, _, _ = latent_statistics(paths, per_voxel=True)
    assert np.allclose(std, np.maximum(spread, 1e-4))
    mean, std, _, _ = latent_statistics(paths, per_voxel=False, std_floor=0.5)
    assert mean.shape == (1, 1, 1, 1) and np.isclose(float(std), typical)
