"""Training of the latent diffusion model (paper, section 2.1 and supplement 1)."""

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.diffusion.schedules import make_schedule
from realdeal.networks.checkpoint import build_latent_unet, save_model
from realdeal.training.loop import finish, fit
from realdeal.training.patches import hold_out


def latent_statistics(paths, per_voxel_mean):
    """Mean and standard deviation of the whole training set's latents, in one pass each.

    Mean per channel (C, 1, 1, 1), or per voxel (C, x, y, z) if `per_voxel_mean`; the standard
    deviation of what is left per channel (C, 1, 1, 1). Normalised latents (z - mean) / std then
    have unit variance, which is what the noise schedule assumes.
    """
    axes = (1, 2, 3)
    total = sum(np.load(path).astype(np.float64) for path in paths) / len(paths)
    mean = total if per_voxel_mean else total.mean(axes, keepdims=True)
    squares = sum(
        ((np.load(path).astype(np.float64) - mean) ** 2).mean(axes, keepdims=True) for path in paths
    )
    std = np.sqrt(squares / len(paths)).clip(1e-6)
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def train_ldm(study, subjects, settings, seed):
    """Train on the latents of `subjects`; write model, latent statistics, history.

    `settings` is the config's `ldm` section: `network` (unet, latent_channels, coordinates),
    `schedule`, `prediction`, `per_voxel_mean`, `training`.
    """
    training = settings["training"]
    torch.manual_seed(seed)
    network = build_latent_unet(settings["network"])
    schedule = make_schedule(settings["schedule"], settings["prediction"])
    train, validation = hold_out(subjects, training["validation_subjects"], seed)
    paths = {
        held: [study.store("latents", s) for s in names]
        for held, names in ((False, train), (True, validation))
    }
    mean, std = latent_statistics(paths[False], settings["per_voxel_mean"])

    def draw(generator, held):
        chosen = torch.randint(len(paths[held]), (training["batch_size"],), generator=generator)
        latents = torch.stack([torch.from_numpy(np.load(paths[held][i])) for i in chosen])
        clean = (latents - mean) / std
        t = torch.randint(schedule.num_train_timesteps, (len(clean),), generator=generator)
        return {"clean": clean, "noise": torch.randn(clean.shape, generator=generator), "t": t}

    def loss(module, batch):
        clean, noise, t = batch["clean"], batch["noise"], batch["t"]
        noisy = schedule.add_noise(clean, noise, t)
        if settings["prediction"] == "v_prediction":
            target = schedule.get_velocity(clean, noise, t)
        else:
            target = noise
        return F.mse_loss(module(noisy, t).float(), target)

    identity = {"settings": settings, "subjects": list(subjects), "seed": seed}
    network, description = fit("ldm", network, draw, loss, training, study, seed, identity)
    description |= {
        "config": settings,
        "subjects": len(subjects),
        "latent_shape": list(np.load(paths[False][0]).shape),
    }
    save_model(
        study.model("ldm"),
        "ldm",
        network,
        settings["network"],
        extra={"latent_mean": mean, "latent_std": std},
        description=description,
    )
    finish("ldm", study)
