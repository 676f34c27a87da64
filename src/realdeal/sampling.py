"""Synthetic volumes from the latent diffusion model."""

import torch

from realdeal.data.participants import read_covariates
from realdeal.data.volumes import load_volume, save_volume
from realdeal.device import choose_device
from realdeal.diffusion.conditioning import encode
from realdeal.diffusion.schedules import ETA, denoise, make_schedule
from realdeal.files import write_json
from realdeal.networks.checkpoint import load_model
from realdeal.progress import progress
from realdeal.training.loop import generator_for


@torch.no_grad()
def sample(study, names, settings, seed, like, asked_of=()):
    """Sample one synthetic volume for each name and write it as study.volume("synthetic", name).

    `settings` is the config's `sampling.ldm` (sampler, steps, spacing). Each volume's noise
    depends on the seed and its name alone, so it does not matter which job makes it. `like` is a
    volume whose affine the synthetic ones take. A conditioned LDM is asked for the covariates of
    one of the training subjects `asked_of`, drawn likewise; they are written beside the volume
    as <name>.json.
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
    conditioning = description["network"].get("conditioning")
    for name in progress(names, description="sampling", unit="volume"):
        generator = generator_for(seed, "synthetic", name)

        def noise(generator=generator):
            return torch.randn(shape, generator=generator).to(device)

        covariates = None
        if conditioning:
            asked = draw_covariates(study, asked_of, conditioning["covariates"], seed, name)
            covariates = encode([asked], conditioning["covariates"]).to(device)
            write_json(study.volume("synthetic", name).parent / f"{name}.json", asked)

        def predict(z, t, covariates=covariates):
            return network(z, torch.full((len(z),), t, device=device), covariates)

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
        volume = autoencoder.decode((latents * std + mean).clamp(low, high))
        save_volume(study.volume("synthetic", name), volume[0, 0].float().cpu().numpy(), affine)


def draw_covariates(study, subjects, covariates, seed, name):
    """The covariates of one of the `subjects`, drawn for the synthetic volume `name`."""
    generator = generator_for(seed, "covariates", name)
    subject = sorted(subjects)[int(torch.randint(len(subjects), (), generator=generator))]
    (row,) = read_covariates(study, [subject])
    return {covariate["name"]: row[covariate["name"]] for covariate in covariates}
