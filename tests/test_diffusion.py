"""Samplers against MONAI's, targets against their definitions."""

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from realdeal.diffusion.schedules import (
    denoise,
    make_schedule,
    predicted_noise_and_clean,
    sampling_timesteps,
)

SETTINGS = {"timesteps": 1000, "beta_start": 0.0015, "beta_end": 0.0205}


@pytest.fixture
def schedule():
    return make_schedule(SETTINGS | {"kind": "scaled_linear_beta"}, "epsilon")


def toy(x, t):
    return torch.tanh(x) * (1 + t / 1000)


def test_schedules_are_those_of_the_papers(schedule):
    betas = torch.linspace(0.0015**0.5, 0.0205**0.5, 1000) ** 2
    assert torch.allclose(schedule.alphas_cumprod, (1 - betas).cumprod(0), rtol=1e-5)
    linear = make_schedule(SETTINGS | {"kind": "linear_beta"}, "epsilon")
    betas = torch.linspace(0.0015, 0.0205, 1000)
    assert torch.allclose(linear.alphas_cumprod, (1 - betas).cumprod(0), rtol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_ddim_equals_monai(prediction):
    mine = make_schedule(SETTINGS | {"kind": "scaled_linear_beta"}, prediction)
    # MONAI steps from t to t - 1000 // steps, so compare where both spacings agree.
    theirs = DDIMScheduler(
        1000,
        schedule="scaled_linear_beta",
        beta_start=0.0015,
        beta_end=0.0205,
        prediction_type=prediction,
        clip_sample=False,
    )
    x = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    theirs.set_timesteps(1000)
    y = x
    for t in theirs.timesteps:
        y, _ = theirs.step(toy(y, int(t)), int(t), y)
    assert torch.allclose(denoise(toy, x, mine, 1000), y, atol=1e-3, rtol=1e-3)


def test_ddpm_equals_monai(schedule):
    theirs = DDPMScheduler(
        1000, schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.0205, clip_sample=True
    )
    x = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    theirs.set_timesteps(1000)
    one, two = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    y = x
    for t in theirs.timesteps:
        y, _ = theirs.step(toy(y, int(t)), int(t), y, generator=one)
    mine = denoise(
        toy,
        x,
        schedule,
        1000,
        eta=1.0,
        clip=1.0,
        noise=lambda: torch.randn(x.shape, generator=two),
    )
    assert torch.allclose(mine, y, atol=1e-3)


def test_velocity_identity(schedule):
    clean, noise = torch.randn(2, 3, 1, 2, 2, 2)
    t = torch.tensor([0, 400, 999])
    noisy, velocity = schedule.add_noise(clean, noise, t), schedule.get_velocity(clean, noise, t)
    for i in range(3):
        abar = float(schedule.alphas_cumprod[t[i]])
        epsilon, x0 = predicted_noise_and_clean(velocity[i], noisy[i], abar, "v_prediction")
        assert torch.allclose(epsilon, noise[i], atol=1e-4)
        assert torch.allclose(x0, clean[i], atol=1e-4)


def test_timesteps(schedule):
    abar = schedule.alphas_cumprod
    assert sampling_timesteps(abar, 1000, "uniform") == list(range(999, -1, -1))
    steps = sampling_timesteps(abar, 8, "log_snr")
    assert steps[0] == 999 and steps[-1] == 0 and len(steps) == 8
    snr = torch.log(abar / (1 - abar))[steps]
    assert (snr.diff() - snr.diff().mean()).abs().max() < 0.5
    detail = sampling_timesteps(abar, 8, "detail")
    assert detail[0] == 999 and detail[-1] == 0 and len(detail) == 8
    snr = torch.log(abar / (1 - abar))[detail[1:]]
    assert abs(snr[0]) < 0.02  # straight to as much signal as noise
    assert (snr.diff() - snr.diff().mean()).abs().max() < 0.5
    with pytest.raises(ValueError, match="steps"):
        sampling_timesteps(abar, 0, "uniform")


def test_a_perfect_network_recovers_the_image_in_any_number_of_steps(schedule):
    clean = torch.rand(1, 1, 4, 4, 4) * 2 - 1

    def oracle(x, t):
        abar = schedule.alphas_cumprod[t]
        return (x - abar.sqrt() * clean) / (1 - abar).sqrt()

    for steps in (1, 3, 8):
        out = denoise(oracle, torch.randn_like(clean), schedule, steps, spacing="log_snr")
        assert torch.allclose(out, clean, atol=1e-3)
