"""Training of the latent diffusion model (paper, section 2.1 and supplement 1)."""

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.data.participants import read_covariates
from realdeal.diffusion.conditioning import encode
from realdeal.diffusion.schedules import make_schedule, predicted_noise_and_clean
from realdeal.networks.checkpoint import build_latent_unet, save_model
from realdeal.training.loop import finish, fit
from realdeal.training.patches import hold_out


def latent_statistics(paths, per_voxel):
    """Normalisation of the whole training set's latents: float32 tensors mean, std, low, high.

    Mean and standard deviation per channel (C, 1, 1, 1), or per voxel (C, x, y, z) if `per_voxel`;
    (z - mean) / std then has unit variance, which is what the noise schedule assumes. `low` and
    `high`, of the same shape, are the least and the greatest latents seen: no sample may lie
    outside.
    """
    axes = () if per_voxel else (1, 2, 3)

    def average(of):
        return sum(of(np.load(path).astype(np.float64)) for path in paths) / len(paths)

    mean = average(lambda z: z.mean(axes, keepdims=True))
    std = np.sqrt(average(lambda z: ((z - mean) ** 2).mean(axes, keepdims=True))).clip(1e-4)
    low, high = np.inf, -np.inf
    for path in paths:
        latents = np.load(path)
        low = np.minimum(low, latents.min(axes, keepdims=True))
        high = np.maximum(high, latents.max(axes, keepdims=True))
    return tuple(torch.from_numpy(a).float() for a in (mean, std, low, high))


def train_ldm(study, subjects, settings, seed):
    """Train on the latents of `subjects`; write model, latent statistics, history.

    `settings` is the config's `ldm` section: `network` (unet, latent_channels, coordinates),
    `schedule`, `prediction`, `per_voxel`, `training`, and `conditioning` (None, or see
    `realdeal.diffusion.conditioning.Conditioning`), whose covariates are columns of the study's
    participants.
    """
    training, conditioning = settings["training"], settings["conditioning"]
    torch.manual_seed(seed)
    network_description = settings["network"] | {"conditioning": conditioning}
    network = build_latent_unet(network_description)
    schedule = make_schedule(settings["schedule"], settings["prediction"])
    train, validation = hold_out(subjects, training["validation_subjects"], seed)
    paths = {
        held: [study.store("latents", s) for s in names]
        for held, names in ((False, train), (True, validation))
    }
    covariates = {
        held: encode(read_covariates(study, names), conditioning["covariates"])
        for held, names in ((False, train), (True, validation))
        if conditioning
    }
    mean, std, low, high = latent_statistics(paths[False], settings["per_voxel"])

    def draw(generator, held):
        chosen = torch.randint(len(paths[held]), (training["batch_size"],), generator=generator)
        latents = torch.stack([torch.from_numpy(np.load(paths[held][i])) for i in chosen])
        clean = (latents - mean) / std
        t = torch.randint(schedule.num_train_timesteps, (len(clean),), generator=generator)
        batch = {"clean": clean, "noise": torch.randn(clean.shape, generator=generator), "t": t}
        if conditioning:
            batch["covariates"] = covariates[held][chosen]
        return batch

    def loss(module, batch):
        clean, noise, t = batch["clean"], batch["noise"], batch["t"]
        noisy = schedule.add_noise(clean, noise, t)
        if settings["prediction"] == "v_prediction":
            target = schedule.get_velocity(clean, noise, t)
        else:
            target = noise
        return F.mse_loss(module(noisy, t, batch.get("covariates")).float(), target)

    def show(module, batch):
        """First channel of a latent halfway to noise, and what the network makes of it."""
        clean, noise = batch["clean"][:1], batch["noise"][:1]
        t = torch.full((1,), schedule.num_train_timesteps // 2, device=clean.device)
        noisy = schedule.add_noise(clean, noise, t)
        told = batch["covariates"][:1] if conditioning else None
        signal = float(schedule.alphas_cumprod[int(t)])
        output = module(noisy, t, told).float()
        _, made = predicted_noise_and_clean(output, noisy, signal, settings["prediction"])
        return {"latent": clean[0, 0], "noisy": noisy[0, 0], "denoised": made[0, 0]}

    identity = {"settings": settings, "subjects": list(subjects), "seed": seed}
    network, description = fit("ldm", network, draw, loss, show, training, study, seed, identity)
    if network is None:  # another device writes the model
        return
    description |= {
        "config": settings,
        "subjects": len(subjects),
        "latent_shape": list(np.load(paths[False][0]).shape),
    }
    save_model(
        study.model("ldm"),
        "ldm",
        network,
        network_description,
        extra={
            "latent_mean": mean,
            "latent_std": std,
            "latent_low": low,
            "latent_high": high,
        },
        description=description,
    )
    finish("ldm", study)
