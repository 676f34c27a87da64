"""Training of the autoencoder on random crops (paper, supplement 1)."""

import torch
from torch.nn import functional as F

from realdeal.networks.checkpoint import build_autoencoder, save_model
from realdeal.training.loop import finish, fit
from realdeal.training.patches import PatchReader, hold_out


def reconstruction_loss(output, target, absolute_weight):
    """Mean squared error plus `absolute_weight` times mean absolute error."""
    loss = F.mse_loss(output, target)
    if absolute_weight:
        loss = loss + absolute_weight * F.l1_loss(output, target)
    return loss


def train_autoencoder(study, subjects, settings, seed):
    """Train on the original volumes of `subjects`; write model, description and history.

    `settings` is the config's `autoencoder` section: `network` (channels, latent_channels),
    `training` (see `realdeal.training.loop.fit`; `crop` is the side of the training crops in
    voxels, or null for whole volumes, `absolute_weight` the weight of the L1 term).
    """
    training = settings["training"]
    torch.manual_seed(seed)
    network = build_autoencoder(settings["network"])
    train, validation = hold_out(subjects, training["validation_subjects"], seed)
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
