"""Noise schedules and the DDPM / DDIM samplers."""

import torch
from monai.networks.schedulers import DDPMScheduler

DETAIL_LOG_SNR = 0.0
ETA = {"ddim": 0.0, "ddpm": 1.0}  # fresh noise in each step, see `denoise`


def make_schedule(settings, prediction):
    """MONAI's DDPM scheduler from config: `timesteps`, `beta_start`, `beta_end`, `kind`.

    `kind` is `scaled_linear_beta` (the released configurations) or `linear_beta` (the papers'
    wording). `prediction` is `epsilon` or `v_prediction`. Samples are not clipped here: latents
    have no bounds; the refiner clips its images itself.
    """
    return DDPMScheduler(
        num_train_timesteps=settings["timesteps"],
        schedule=settings["kind"],
        beta_start=settings["beta_start"],
        beta_end=settings["beta_end"],
        prediction_type=prediction,
        clip_sample=False,
    )


def sampling_timesteps(alphas_cumprod, steps, spacing):
    """`steps` time steps from the noisiest down, as a list of ints.

    `uniform` spaces them evenly in t (as MONAI's DDIM), `log_snr` evenly in
    log(abar / (1 - abar)), which puts more of few steps where details are decided. `detail` goes
    from the noisiest step straight to a log SNR of `DETAIL_LOG_SNR` and spaces the others evenly
    from there: for image-to-image models, whose condition says all that is to be known before.
    """
    total = len(alphas_cumprod)
    if not 1 <= steps <= total:
        raise ValueError(f"steps must lie in 1..{total}, not {steps}")
    if spacing == "uniform":
        return torch.linspace(total - 1, 0, steps).round().long().tolist()
    if spacing not in ("log_snr", "detail"):
        raise ValueError(f"unknown spacing {spacing!r}: use uniform, log_snr or detail")
    log_snr = torch.log(alphas_cumprod / (1 - alphas_cumprod)).double()
    if steps == 1:
        return [total - 1]
    if spacing == "detail":
        start = log_snr[-1:].clamp(min=DETAIL_LOG_SNR)
        wanted = torch.linspace(float(start), log_snr[0], steps - 1, dtype=torch.float64)
        wanted = torch.cat([log_snr[-1:], wanted])
    else:
        wanted = torch.linspace(log_snr[-1], log_snr[0], steps, dtype=torch.float64)
    nearest = (log_snr[None] - wanted[:, None]).abs().argmin(1).tolist()
    return sorted(set(nearest), reverse=True)


def predicted_noise_and_clean(output, x, alpha_cumprod, prediction):
    """Network output to (noise, clean sample); `prediction` is epsilon or v_prediction."""
    a, s = alpha_cumprod**0.5, (1 - alpha_cumprod) ** 0.5
    if prediction == "epsilon":
        return output, (x - s * output) / a
    if prediction == "v_prediction":
        return a * output + s * x, a * x - s * output
    raise ValueError(f"unknown prediction {prediction!r}")


@torch.no_grad()
def denoise(
    predict,
    x,
    scheduler,
    steps,
    eta=0.0,
    spacing="uniform",
    clip=None,
    noise=None,
    constrain=None,
):
    """Sample from noise `x` by DDIM (eta 0) up to DDPM (eta 1, all steps: its exact posterior).

    `predict(x, t)` is the network with an int t; `clip` bounds the predicted clean sample to
    [-clip, clip]; `noise()` gives fresh noise of x's shape (needed for eta > 0); `constrain(x)`
    puts back what is known after each step.
    """
    abar = scheduler.alphas_cumprod
    timesteps = sampling_timesteps(abar, steps, spacing)
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        now = float(abar[t])
        then = 1.0 if following is None else float(abar[following])
        epsilon, clean = predicted_noise_and_clean(predict(x, t), x, now, scheduler.prediction_type)
        if clip is not None:
            clean = clean.clamp(-clip, clip)
            epsilon = (x - now**0.5 * clean) / (1 - now) ** 0.5
        sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
        x = then**0.5 * clean + max(1 - then - sigma**2, 0.0) ** 0.5 * epsilon
        if sigma > 0:
            x = x + sigma * noise()
        if constrain is not None:
            x = constrain(x)
    return x
