"""Training of the autoencoder on random crops (paper, supplement 1)."""

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.data.volumes import read_store
from realdeal.networks.autoencoder import BLOCK
from realdeal.networks.checkpoint import build_autoencoder, save_model
from realdeal.training.loop import finish, fit
from realdeal.training.patches import PatchReader, hold_out


def reconstruction_loss(output, target, absolute_weight):
    """Mean squared error plus `absolute_weight` times mean absolute error."""
    loss = F.mse_loss(output, target)
    if absolute_weight:
        loss = loss + absolute_weight * F.l1_loss(output, target)
    return loss


def _blocks(path):
    """A stored volume as blocks of voxels: float64 (x, y, z, 64)."""
    volume = read_store(path, np.float64)
    x, y, z = (n // BLOCK for n in volume.shape)
    blocks = volume.reshape(x, BLOCK, y, BLOCK, z, BLOCK).transpose(0, 2, 4, 1, 3, 5)
    return blocks.reshape(x, y, z, BLOCK**3)


def block_components(paths, count):
    """Principal components of all 4x4x4-voxel blocks of the stored volumes at `paths`.

    Returns float64 arrays: mean (64,), components (count, 64) and the standard deviation of the
    blocks' coefficients (count,), largest first. One pass, one volume in memory.
    """
    voxels = BLOCK**3
    total, products, number = np.zeros(voxels), np.zeros((voxels, voxels)), 0
    for path in paths:
        blocks = _blocks(path).reshape(-1, voxels)
        total += blocks.sum(0)
        products += blocks.T @ blocks
        number += len(blocks)
    mean = total / number
    variances, components = np.linalg.eigh(products / number - np.outer(mean, mean))
    components, variances = components.T[::-1][:count], variances[::-1][:count]
    # An eigenvector's sign is arbitrary, and may differ between machines.
    components = components * np.sign(components.sum(1, keepdims=True) + 1e-12)
    return mean, components, np.sqrt(variances.clip(1e-12))


def linear_codec(paths, count, noise):
    """The best linear start of the autoencoder, as arguments of `Autoencoder.start_linear`.

    Down: the principal components of blocks of voxels, with unit variance. Up: the linear map
    from the 3x3x3 latent voxels around a block to the block that has the least squared error on
    the stored volumes at `paths` when Gaussian noise of standard deviation `noise` lies on the
    latents (ridge regression): with noise, blocks are guessed from their neighbours too and join
    smoothly.
    """
    mean, components, std = block_components(paths, count)
    width = 27 * count
    normal, target, number = np.zeros((width, width)), np.zeros((width, BLOCK**3)), 0
    for path in paths:
        blocks = _blocks(path)
        latents = (blocks - mean) @ (components / std[:, None]).T
        padded = np.pad(latents, ((1, 1), (1, 1), (1, 1), (0, 0)))
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3), (0, 1, 2))
        around = around.reshape(-1, width)  # channel, then the place around the block
        normal += around.T @ around
        target += around.T @ (blocks.reshape(-1, BLOCK**3) - mean)
        number += len(around)
    normal += (noise**2 + 1e-6) * number * np.eye(width)
    up = np.linalg.solve(normal, target).T.reshape(-1, count, 3, 3, 3)
    down = (components / std[:, None]).reshape(count, 1, BLOCK, BLOCK, BLOCK)
    arrays = down, -(components @ mean) / std, up, mean
    return tuple(torch.from_numpy(a.copy()).float() for a in arrays)


def train_autoencoder(study, subjects, settings, seed):
    """Train on the original volumes of `subjects`; write model, description and history.

    `settings` is the config's `autoencoder` section: `network` (see `Autoencoder`),
    `training` (see `realdeal.training.loop.fit`; `crop` is the side of the training crops in
    voxels, or null for whole volumes, `absolute_weight` the weight of the L1 term,
    `latent_noise` the standard deviation of noise on the latents before their sigmoid, from which
    the decoder learns to make smooth volumes of latents that do not quite fit together).
    """
    training = settings["training"]
    torch.manual_seed(seed)
    network = build_autoencoder(settings["network"])
    channels = settings["network"]["latent_channels"]
    train, validation = hold_out(subjects, training["validation_subjects"], seed)
    if network.linear_path:
        paths = [study.store("original", s) for s in train]
        network.start_linear(*linear_codec(paths, channels, training["latent_noise"]))
    readers = {
        held: PatchReader([study.store("original", s) for s in names], size=training["crop"])
        for held, names in ((False, train), (True, validation))
    }

    def draw(generator, held):
        (originals,) = readers[held].draw(generator, training["batch_size"])
        if not training["latent_noise"]:
            return {"original": originals}
        shape = (len(originals), channels, *(n // BLOCK for n in originals.shape[2:]))
        noise = training["latent_noise"] * torch.randn(shape, generator=generator)
        return {"original": originals, "noise": noise}

    def loss(module, batch):
        output = module(batch["original"], batch.get("noise"))
        return reconstruction_loss(output, batch["original"], training["absolute_weight"])

    def show(module, batch):
        original, made = batch["original"][0, 0], module(batch["original"][:1])[0, 0]
        return {"original": original, "reconstruction": made}

    identity = {"settings": settings, "subjects": list(subjects), "seed": seed}
    network, description = fit(
        "autoencoder", network, draw, loss, show, training, study, seed, identity
    )
    if network is None:  # another device writes the model
        return
    save_model(
        study.model("autoencoder"),
        "autoencoder",
        network,
        settings["network"],
        description=description | {"config": settings, "subjects": len(subjects)},
    )
    finish("autoencoder", study)
