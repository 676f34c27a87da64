"""The sampler `texture`: what is measured, what is drawn, and that few steps suffice."""

import numpy as np
import pytest
import torch
from small_networks import SCHEDULE

from realdeal.diffusion.schedules import make_schedule
from realdeal.errors import InputError
from realdeal.refinement.samplers import make_sampler
from realdeal.refinement.texture import (
    CONTRASTS,
    FREQUENCIES,
    INTENSITIES,
    Texture,
    contrast,
    describe,
)


def texture(amplitude, spectrum, residual_std=0.2):
    """The same at all time steps."""
    return Texture(
        {
            "timesteps": [0, 999],
            "amplitudes": [amplitude] * 3,
            "spectra": [list(spectrum)] * 3,
            "residual_std": residual_std,
        }
    )


def level(value):
    return np.full((len(INTENSITIES), len(CONTRASTS)), value)


def test_contrast_is_the_standard_deviation_of_the_neighbourhood():
    coarse = torch.rand(1, 1, 9, 9, 9)
    expected = coarse[0, 0, 2:7, 3:8, 1:6].std(correction=0)
    assert float(contrast(coarse)[0, 0, 4, 5, 3]) == pytest.approx(float(expected), rel=1e-4)


def test_what_is_drawn_is_what_is_described():
    """A planted strength for each tissue, and a planted spectrum, come back."""
    amplitude = np.interp(INTENSITIES, [-1, -0.5, 0.5, 1], [0.02, 0.2, 0.1, 0.1])
    amplitude = amplitude[:, None] * np.interp(CONTRASTS, [0, 0.4], [1, 2])
    spectrum = np.interp(FREQUENCIES, [0, 0.25, 0.5], [1, 3, 0.2])
    coarse = torch.full((12, 1, 24, 24, 24), -0.5)
    coarse[:, :, :12] = 0.5
    white = torch.randn(coarse.shape, generator=torch.Generator().manual_seed(0))
    drawn = texture(amplitude, spectrum).draw(white, coarse)
    found, power = describe(drawn, coarse, torch.ones_like(coarse, dtype=bool))
    for i, value in ((2, -0.5), (7, 0.5)):
        assert INTENSITIES[i] == pytest.approx(value)
        flat = (coarse == value) & (contrast(coarse) == 0)
        assert float(drawn[flat].std()) == pytest.approx(amplitude[i, 0], rel=0.03)
        assert found[i, 0] == pytest.approx(amplitude[i, 0], rel=0.03)
    ratio = power / spectrum
    np.testing.assert_allclose(ratio[1:-1] / ratio[1:-1].mean(), 1, atol=0.15)


def test_white_texture_is_the_white_noise_itself():
    white = torch.randn(1, 1, 8, 6, 10)
    drawn = texture(level(0.3), np.ones(16)).draw(white, torch.zeros_like(white))
    assert torch.allclose(drawn, 0.3 * white, atol=1e-5)


def test_steps_spread_about_noise_as_large_as_what_is_missing():
    abar = make_schedule(SCHEDULE, "epsilon").alphas_cumprod
    chosen = texture(level(1), np.ones(16), residual_std=0.16)
    (t,) = chosen.sampling_timesteps(abar, 1)
    noise = ((1 - abar[t]) / abar[t]) ** 0.5
    assert float(noise) == pytest.approx(0.16, rel=0.05)
    steps = chosen.sampling_timesteps(abar, 4)
    assert len(steps) == 4 and steps == sorted(steps, reverse=True) and steps[0] > t > steps[-1]


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_gaussian_data_come_out_with_their_spread_after_any_number_of_steps(steps):
    """White Gaussian data: the best prediction and what it misses are known by hand."""
    mean, spread = 0.1, 0.2
    schedule = make_schedule(SCHEDULE, "epsilon")
    abar = schedule.alphas_cumprod
    timesteps = list(range(1000))

    def missing(t):
        a2 = float(abar[t])
        return (spread**2 * (1 - a2) / (a2 * spread**2 + 1 - a2)) ** 0.5

    def predict(x, t):
        a, s2 = float(abar[t]) ** 0.5, 1 - float(abar[t])
        gain = a * spread**2 / (a**2 * spread**2 + s2)
        return (x - a * (mean + gain * (x - a * mean))) / s2**0.5

    exact = Texture(
        {
            "timesteps": timesteps,
            "amplitudes": [level(missing(t)) for t in timesteps] + [level(spread)],
            "spectra": [[1.0] * 16] * (len(timesteps) + 1),
            "residual_std": spread,
        }
    )
    generator = torch.Generator().manual_seed(0)

    def noise():
        return torch.randn(1, 1, 40, 40, 40, generator=generator)

    coarse = torch.full((1, 1, 40, 40, 40), mean)
    x = exact.sample(predict, noise(), coarse, schedule, steps, noise=noise, temperature=1)
    assert float(x.mean()) == pytest.approx(mean, abs=5e-3)
    assert float(x.std()) == pytest.approx(spread, rel=0.02)


def test_an_older_refiner_without_it_is_refused_in_words():
    with pytest.raises(InputError, match="trained before the sampler texture"):
        make_sampler({"sampler": "texture", "steps": 1}, {"network": {"schedule": SCHEDULE}})
