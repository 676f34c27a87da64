"""The linear denoiser: against the conditional expectation of a Gaussian, computed densely."""

import numpy as np
import torch
from small_networks import SCHEDULE, small_unet

from realdeal.diffusion.conditioning import Conditioning
from realdeal.diffusion.linear import RIDGE, LinearDenoiser
from realdeal.diffusion.schedules import make_schedule, predicted_noise_and_clean
from realdeal.networks.unets import LatentUNet


def fitted(modes=3, subjects=40, size=12):
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(subjects, 2, generator=rng)
    slopes = torch.randn(2, size, generator=rng)
    latents = features @ slopes + 0.3 * torch.randn(subjects, size, generator=rng)
    linear = LinearDenoiser(modes, (size,), 2)
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
    modes, variances = linear.basis.double(), linear.variances.double()
    assert torch.allclose(modes @ modes.T, torch.eye(3, dtype=torch.float64), atol=1e-5)
    outside = torch.eye(12, dtype=torch.float64) - modes.T @ modes
    covariance = modes.T @ torch.diag(variances) @ modes + linear.rest.double() * outside
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


def test_a_network_starts_as_the_linear_denoiser():
    """An untrained U-Net adds nothing, so the clean latents it implies are the linear guess."""
    covariates = [{"name": "age", "range": [0, 1]}, {"name": "sex", "levels": ["F", "M"]}]
    for prediction in ("v_prediction", "epsilon"):
        conditioning = Conditioning(covariates, "concatenate")
        assert conditioning.width == 3
        linear = LinearDenoiser(2, (1, 4, 4, 4), 3)
        linear.fit(torch.randn(9, 1, 4, 4, 4), torch.rand(9, 3))
        schedule = make_schedule(SCHEDULE, prediction)
        network = LatentUNet(small_unet(8, 8), 1, False, conditioning, linear, schedule)
        z, t = torch.randn(2, 1, 4, 4, 4), torch.tensor([300, 300])
        told = torch.tensor([[0.2, 1.0], [0.7, 0.0]])
        output = network(z, t, told)
        signal = float(schedule.alphas_cumprod[300])
        _, clean = predicted_noise_and_clean(output, z, signal, prediction)
        expected = linear(z, torch.full((2,), signal), conditioning.features(told))
        assert torch.allclose(clean, expected, atol=1e-4)
