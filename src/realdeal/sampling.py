"""Synthetic volumes from the latent diffusion model."""

import torch

from realdeal.data.volumes import load_volume, save_volume
from realdeal.device import choose_device
from realdeal.diffusion.schedules import denoise, make_schedule
from realdeal.networks.checkpoint import load_model
from realdeal.progress import progress
from realdeal.training.loop import generator_for

ETA = {"ddim": 0.0, "ddpm": 1.0}


@torch.no_grad()
def sample(study, names, settings, seed, like):
    """Sample one synthetic volume for each name and write it as study.volume("synthetic", name).

    `settings` is the config's `sampling.ldm` (sampler, steps, spacing). Each volume's noise
    depends on the seed and its name alone, so it does not matter which job makes it. `like` is a
    volume whose affine the synthetic ones take.
    """
    device = choose_device()
    network, description, extra = load_model(study.model("ldm"), "ldm", device)
    autoencoder, _, _ = load_model(study.model("autoencoder"), "autoencoder", device)
    config = description["config"]
    schedule = make_schedule(config["schedule"], config["prediction"])
    mean, std, low, high = (
        extra[f"latent_{name}"].to(device) for name in ("mean", "std", "low", "high")
    )
    affine = load_volume(like).affine
    shape = (1, *description["latent_shape"])
    for name in progress(names, description="sampling", unit="volume"):
        generator = generator_for(seed, "synthetic", name)

        def noise(generator=generator):
            return torch.randn(shape, generator=generator).to(device)

        def predict(z, t):
            return network(z, torch.full((len(z),), t, device=device))

        latents = denoise(
            predict,
            noise(),
            schedule,
            settings["steps"],
            eta=ETA[settings["sampler"]],
            spacing=settings["spacing"],
            noise=noise,
        )
        # Outside the latents that it has seen the decoder was never trained.
        latents = latents.clamp(low, high) * std + mean
        volume = autoencoder.decode(latents.clamp(0, 1))
        save_volume(study.volume("synthetic", name), volume[0, 0].float().cpu().numpy(), affine)
