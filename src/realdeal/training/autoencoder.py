"""Training of the autoencoder on random crops (paper, supplement 1)."""

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.data.volumes import open_store
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


def block_components(paths, count):
    """Principal components of all 4x4x4-voxel blocks of the stored volumes at `paths`.

    Returns float32 tensors: mean (64,), components (count, 64) and the standard deviation of the
    blocks' coefficients (count,), largest first. One pass, one volume in memory.
    """
    voxels = BLOCK**3
    total, products, number = np.zeros(voxels), np.zeros((voxels, voxels)), 0
    for path in paths:
        volume = np.asarray(open_store(path), dtype=np.float64) / 32767
        x, y, z = (n // BLOCK for n in volume.shape)
        blocks = volume.reshape(x, BLOCK, y, BLOCK, z, BLOCK).transpose(0, 2, 4, 1, 3, 5)
        blocks = blocks.reshape(-1, voxels)
        total += blocks.sum(0)
        products += blocks.T @ blocks
        number += len(blocks)
    mean = total / number
    variances, components = np.linalg.eigh(products / number - np.outer(mean, mean))
    components, variances = components.T[::-1][:count], variances[::-1][:count]
    # An eigenvector's sign is arbitrary, and may differ between machines.
    components = components * np.sign(components.sum(1, keepdims=True) + 1e-12)
    std = np.sqrt(variances.clip(1e-12))
    return tuple(torch.from_numpy(a.copy()).float() for a in (mean, components, std))


def train_autoencoder(study, subjects, settings, seed):
    """Train on the original volumes of `subjects`; write model, description and history.

    `settings` is the config's `autoencoder` section: `network` (see `Autoencoder`),
    `training` (see `realdeal.training.loop.fit`; `crop` is the side of the training crops in
    voxels, or null for whole volumes, `absolute_weight` the weight of the L1 term).
    """
    training = settings["training"]
    torch.manual_seed(seed)
    network = build_autoencoder(settings["network"])
    train, validation = hold_out(subjects, training["validation_subjects"], seed)
    if network.linear_path:
        paths = [study.store("original", s) for s in train]
        network.start_at_components(
            *block_components(paths, settings["network"]["latent_channels"])
        )
    readers = {
        held: PatchReader([study.store("original", s) for s in names], size=training["crop"])
        for held, names in ((False, train), (True, validation))
    }

    def draw(generator, held):
        (originals,) = readers[held].draw(generator, training["batch_size"])
        return {"original": originals}

    def loss(module, batch):
        output = module(batch["original"])
        return reconstruction_loss(output, batch["original"], training["absolute_weight"])

    identity = {"settings": settings, "subjects": list(subjects), "seed": seed}
    network, description = fit("autoencoder", network, draw, loss, training, study, seed, identity)
    save_model(
        study.model("autoencoder"),
        "autoencoder",
        network,
        settings["network"],
        description=description | {"config": settings, "subjects": len(subjects)},
    )
    finish("autoencoder", study)
