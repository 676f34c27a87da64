"""Training of the latent diffusion model (paper, section 2.1 and supplement 1)."""

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.data.participants import read_covariates
from realdeal.diffusion.conditioning import encode, trained_range
from realdeal.diffusion.schedules import make_schedule, predicted_noise_and_clean
from realdeal.diffusion.unseen import borrow
from realdeal.networks.checkpoint import build_latent_unet, save_model
from realdeal.training.loop import finish, fit
from realdeal.training.patches import hold_out


def latent_statistics(paths, per_voxel, std_floor=0):
    """Normalisation of the whole training set's latents: float32 tensors mean, std, low, high.

    Mean and standard deviation per channel (C, 1, 1, 1), or per voxel (C, x, y, z) if `per_voxel`;
    (z - mean) / std then has unit variance, which is what the noise schedule assumes. Half of the
    voxels may lie in the background, where that would blow up next to nothing: those whose
    standard deviation is below the share `std_floor` of their channel's (root mean square) are
    divided by that instead. `low` and `high`, of the same shape, are the least and the greatest
    latents seen: no sample may lie outside.
    """
    axes = () if per_voxel else (1, 2, 3)

    def average(of):
        return sum(of(np.load(path).astype(np.float64)) for path in paths) / len(paths)

    mean = average(lambda z: z.mean(axes, keepdims=True))
    variance = average(lambda z: ((z - mean) ** 2).mean(axes, keepdims=True))
    typical = np.sqrt(variance.mean((1, 2, 3), keepdims=True))
    std = np.sqrt(variance).clip(np.maximum(std_floor * typical, 1e-4))
    low, high = np.inf, -np.inf
    for path in paths:
        latents = np.load(path)
        low = np.minimum(low, latents.min(axes, keepdims=True))
        high = np.maximum(high, latents.max(axes, keepdims=True))
    return tuple(torch.from_numpy(a).float() for a in (mean, std, low, high))


def with_unseen(latents, covariates, conditioning, people):
    """Latents and encoded covariates (N, K) with those that `borrow` adds, of categories alone.

    Where numbers are told, too, or the scans' `people` are not known, nothing is added.
    """
    levels = [len(c["levels"]) for c in conditioning["covariates"] if "levels" in c]
    if len(levels) < len(conditioning["covariates"]) or None in people:
        return latents, covariates
    borrowed, told = borrow(latents, people, covariates.long(), levels)
    return torch.cat([latents, borrowed]), torch.cat([covariates, told.to(covariates)])


def train_ldm(study, subjects, settings, seed, name="ldm"):
    """Train on the latents of `subjects`; write model, latent statistics, history as `name`.

    `settings` is the config's `ldm` section: `network` (unet, latent_channels, coordinates, guess:
    the closed-form denoiser that it starts from, or None), `schedule`, `prediction`, `per_voxel`,
    `std_floor`, `training`, and `conditioning` (None, or see
    `realdeal.diffusion.conditioning.Conditioning`), whose covariates are columns of the study's
    participants.
    """
    training, conditioning = settings["training"], settings["conditioning"]
    torch.manual_seed(seed)
    train, validation = hold_out(subjects, training["validation_subjects"], seed)
    paths = {
        held: [study.store("latents", s) for s in names]
        for held, names in ((False, train), (True, validation))
    }
    shape = list(np.load(paths[False][0]).shape)
    network_description = settings["network"] | {"conditioning": conditioning}
    mean, std, low, high = latent_statistics(
        paths[False], settings["per_voxel"], settings["std_floor"]
    )
    schedule = make_schedule(settings["schedule"], settings["prediction"])
    covariates, trained = {}, {}
    if conditioning:
        rows = {
            held: read_covariates(study, names)
            for held, names in ((False, train), (True, validation))
        }
        covariates = {held: encode(r, conditioning["covariates"]) for held, r in rows.items()}
        trained = {"trained": trained_range(rows[False], conditioning["covariates"])}
        dropout = conditioning.get("dropout", 0)
    guess = settings["network"]["guess"]
    if guess:
        examples = torch.stack([torch.from_numpy(np.load(path)) for path in paths[False]])
        examples, told = (examples - mean) / std, covariates.get(False)
        if conditioning:
            people = [row.get("person") for row in rows[False]]
            examples, told = with_unseen(examples, told, conditioning, people)
        network_description |= {key: settings[key] for key in ("schedule", "prediction")}
        network_description |= {"latent_shape": shape, "examples": len(examples)}
    network = build_latent_unet(network_description)
    if conditioning:
        network.conditioning.set_statistics(covariates[False])
    if guess:
        features, effects, groups = examples.new_zeros(len(examples), 0), 0, None
        if conditioning:
            features, effects = network.conditioning.features(told), network.conditioning.effects
            groups = network.conditioning.group(told)
        network.guess.fit(examples, features, effects, groups)

    def draw(generator, held):
        chosen = torch.randint(len(paths[held]), (training["batch_size"],), generator=generator)
        latents = torch.stack([torch.from_numpy(np.load(paths[held][i])) for i in chosen])
        clean = (latents - mean) / std
        t = torch.randint(schedule.num_train_timesteps, (len(clean),), generator=generator)
        batch = {"clean": clean, "noise": torch.randn(clean.shape, generator=generator), "t": t}
        if conditioning:
            batch["covariates"] = covariates[held][chosen]
            batch["told"] = torch.rand(len(clean), generator=generator) >= dropout
        return batch

    def loss(module, batch):
        clean, noise, t = batch["clean"], batch["noise"], batch["t"]
        noisy = schedule.add_noise(clean, noise, t)
        if settings["prediction"] == "v_prediction":
            target = schedule.get_velocity(clean, noise, t)
        else:
            target = noise
        return F.mse_loss(
            module(noisy, t, batch.get("covariates"), batch.get("told")).float(), target
        )

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
    network, description = fit(name, network, draw, loss, show, training, study, seed, identity)
    if network is None:  # another device writes the model
        return
    description |= trained | {
        "config": settings,
        "subjects": len(subjects),
        "latent_shape": shape,
    }
    save_model(
        study.model(name),
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
    finish(name, study)
