"""Training of the refiner on masked patches (paper, section 2.2, equation 1)."""

import numpy as np
import torch

from realdeal.data.volumes import LEVELS, load_volume, open_store, read_store
from realdeal.diffusion.schedules import make_schedule, sampling_timesteps
from realdeal.generators import generator_for
from realdeal.networks.checkpoint import build_refiner, save_model
from realdeal.refinement.intensity import foreground_quantile
from realdeal.refinement.masks import draw_masks
from realdeal.refinement.texture import describe
from realdeal.training.loop import finish, fit
from realdeal.training.patches import PatchReader, hold_out

BACKGROUND = -32700  # int16 stores hold value * LEVELS; the background is -1
CALIBRATION_PATCHES = 16
CALIBRATION_LEVELS = 12
ENOUGH_BRAIN = 0.5  # least brain fraction of those patches


def residual_std(study, subjects):
    """Standard deviation of original - coarse inside the brains of the training set."""
    squares = count = 0
    for subject in subjects:
        original = np.asarray(open_store(study.store("original", subject)), dtype=np.float32)
        coarse = np.asarray(open_store(study.store("coarse", subject)), dtype=np.float32)
        brain = original > BACKGROUND
        squares += float((((original - coarse)[brain] / LEVELS) ** 2).sum())
        count += int(brain.sum())
    return (squares / count) ** 0.5


def masked_loss(predicted, noise, mask, masked=None):
    """Mean squared error of the noise where mask = 1 (equation 1, per masked voxel).

    `masked` is the mean number of masked voxels per sample of the whole batch, where the samples
    given are a part of it.
    """
    masked = mask.sum() / len(mask) if masked is None else masked
    return ((predicted - noise) ** 2 * mask).sum() / (masked * len(mask))


def training_inputs(original, noise, known_noise, mask, alpha_cumprod):
    """(x_t, y_prev): the noisy patch whose known part stays clean, and the condition.

    y_prev = x (1 - M) + G M (paper, section 2.2), x_t likewise keeps the clean known part.
    `alpha_cumprod` is (N, 1, 1, 1, 1).
    """
    noisy = alpha_cumprod.sqrt() * original + (1 - alpha_cumprod).sqrt() * noise
    return original + (noisy - original) * mask, original + (known_noise - original) * mask


@torch.no_grad()
def measure_texture(network, alphas_cumprod, reader, seed):
    """What the network's predictions miss, for the sampler `texture`.

    Measured on the same `CALIBRATION_PATCHES` fully masked patches at `CALIBRATION_LEVELS` time
    steps, and about the coarse patches themselves: {"timesteps", "amplitudes", "spectra"}, see
    `realdeal.refinement.texture.Texture`.
    """
    device = next(network.parameters()).device
    timesteps = sampling_timesteps(alphas_cumprod, CALIBRATION_LEVELS, "log_snr")[::-1]
    generator = generator_for(seed, "refiner", "texture")
    original, coarse = reader.draw(
        generator, CALIBRATION_PATCHES, lambda patch: (patch > BACKGROUND).mean() >= ENOUGH_BRAIN
    )
    mask = torch.ones_like(original)
    noise, known_noise = torch.randn(2, *original.shape, generator=generator)

    def described(predicted):
        return describe(original - predicted, coarse, original > BACKGROUND / LEVELS)

    found = []
    for t in timesteps:
        signal = alphas_cumprod[t].cpu()
        inputs = training_inputs(original, noise, known_noise, mask, signal)
        predicted = []
        for batch in zip(*(x.split(4) for x in (inputs[0], coarse, inputs[1])), strict=True):
            noisy, condition, previous = (x.to(device) for x in batch)
            steps = torch.full((len(noisy),), t, device=device)
            predicted.append(network(noisy, steps, condition, previous).float().cpu())
        clean = (inputs[0] - (1 - signal) ** 0.5 * torch.cat(predicted)) / signal**0.5
        found.append(described(clean.clamp(-1, 1)))
    found.append(described(coarse))
    amplitudes, spectra = (np.stack(values).tolist() for values in zip(*found, strict=True))
    return {"timesteps": timesteps, "amplitudes": amplitudes, "spectra": spectra}


def train_refiner(study, subjects, settings, seed):
    """Train on patches of originals and their coarse versions; write model and history.

    `settings` is the config's `refiner` section: `patch_size`, `stride`, `full_mask_probability`,
    `network` (unet, parameterisation), `schedule`, `training` (with `timestep_power` p: t = T u^p
    for uniform u, 1 as published; `minimum_brain`, the least brain fraction of a patch).
    """
    training, size = settings["training"], settings["patch_size"]
    train, validation = hold_out(subjects, training["validation_subjects"], seed)
    network_description = settings["network"] | {
        "schedule": settings["schedule"],
        "residual_std": residual_std(study, train),
    }
    torch.manual_seed(seed)
    network = build_refiner(network_description)
    abar = make_schedule(settings["schedule"], "epsilon").alphas_cumprod
    readers = {
        held: PatchReader(
            [study.store("original", s) for s in names],
            [study.store("coarse", s) for s in names],
            size=size,
        )
        for held, names in ((False, train), (True, validation))
    }

    def enough_brain(patch):
        return (patch > BACKGROUND).mean() >= training["minimum_brain"]

    def draw(generator, held):
        count = training["batch_size"]
        original, coarse = readers[held].draw(generator, count, enough_brain)
        mask = draw_masks(
            count, size, settings["stride"], settings["full_mask_probability"], generator
        )
        # Stratified over the batch: every batch sees all noise levels, which steadies the loss.
        u = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        t = (len(abar) * u ** training["timestep_power"]).long().clamp(max=len(abar) - 1)
        noise = torch.randn(original.shape, generator=generator)
        known_noise = torch.randn(original.shape, generator=generator)
        noisy, previous = training_inputs(
            original, noise, known_noise, mask, abar[t].view(-1, 1, 1, 1, 1)
        )
        return {
            "noisy": noisy,
            "coarse": coarse,
            "previous": previous,
            "noise": noise,
            "mask": mask,
            "masked": mask.sum() / len(mask),
            "t": t,
        }

    def loss(module, batch):
        predicted = module(batch["noisy"], batch["t"], batch["coarse"], batch["previous"])
        return masked_loss(predicted.float(), batch["noise"], batch["mask"], batch["masked"])

    def show(module, batch):
        """The last patch of the batch, where the noise is strongest."""
        noisy, coarse, previous, noise, t = (
            batch[name][-1:] for name in ("noisy", "coarse", "previous", "noise", "t")
        )
        signal, mask = abar.to(t.device)[t], batch["mask"][-1:]
        predicted = module(noisy, t, coarse, previous).float()
        original, made = (
            torch.lerp(noisy, (noisy - (1 - signal) ** 0.5 * part) / signal**0.5, mask)
            for part in (noise, predicted)
        )
        shown = {"coarse": coarse, "noisy": noisy, "refined": made, "original": original}
        return {caption: patch[0, 0].clamp(-1, 1) for caption, patch in shown.items()}

    identity = {"settings": settings, "subjects": list(subjects), "seed": seed}
    network, description = fit(
        "refiner", network, draw, loss, show, training, study, seed, identity
    )
    if network is None:  # another device writes the model
        return
    description |= {
        "config": settings,
        "subjects": len(subjects),
        "patch_size": size,
        "stride": settings["stride"],
        # What a volume must be like to be refined.
        "voxel_size": load_volume(study.volume("original", train[0])).spacing.tolist(),
        "foreground_quantile": foreground_quantile(
            read_store(study.store("coarse", subject)) for subject in train
        ),
        "texture": measure_texture(network, abar, readers[True], seed),
    }
    save_model(
        study.model("refiner"), "refiner", network, network_description, description=description
    )
    finish("refiner", study)
