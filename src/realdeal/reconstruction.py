"""Volumes through the autoencoder: latents for the LDM, coarse volumes for the refiner."""

import numpy as np
import torch

from realdeal.data.volumes import load_volume, read_store, save_volume, store
from realdeal.device import choose_device
from realdeal.files import atomic_path
from realdeal.networks.checkpoint import load_model
from realdeal.progress import progress


@torch.no_grad()
def reconstruct(study, subjects, evaluated):
    """Encode and decode `subjects`.

    Writes for each its latents (float32, (C, x, y, z)) and its coarse volume as training stores,
    and for the `evaluated` among them also the reconstructed volume as NIfTI.
    """
    device = choose_device()
    autoencoder, _, _ = load_model(study.model("autoencoder"), "autoencoder", device)
    for subject in progress(subjects, description="reconstructing", unit="volume"):
        original = read_store(study.store("original", subject))
        volume = torch.from_numpy(original)[None, None].to(device)
        latents = autoencoder.encode(volume)
        coarse = autoencoder.decode(latents)[0, 0].float().cpu().numpy()
        with atomic_path(study.store("latents", subject)) as temporary:
            np.save(temporary, latents[0].float().cpu().numpy())
        store(study.store("coarse", subject), coarse)
        if subject in evaluated:
            affine = load_volume(study.volume("original", subject)).affine
            save_volume(study.volume("reconstructed", subject), coarse, affine)
