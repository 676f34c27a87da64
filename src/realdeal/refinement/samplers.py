"""How noise becomes a patch, or a volume: the refiner's samplers."""

from functools import partial

from realdeal.diffusion.schedules import ETA, denoise, make_schedule
from realdeal.errors import InputError
from realdeal.refinement.texture import Texture


def make_sampler(settings, description):
    """`sample(predict, x, coarse, *, noise, constrain)` from the config's `sampling.refiner`.

    `description` is that of the trained refiner. `ddpm` and `ddim` start from pure noise,
    `texture` from the coarse volume.
    """
    schedule = make_schedule(description["network"]["schedule"], "epsilon")
    steps = settings["steps"]
    if settings["sampler"] == "texture":
        if "texture" not in description:
            raise InputError(
                "this refiner was trained before the sampler texture existed; choose ddim, or "
                "train it again"
            )
        texture = Texture(
            description["texture"] | {"residual_std": description["network"]["residual_std"]}
        )
        return partial(texture.sample, scheduler=schedule, steps=steps)
    return denoising_sampler(schedule, steps, ETA[settings["sampler"]], settings["spacing"])


def denoising_sampler(schedule, steps, eta=0.0, spacing="detail"):
    """DDIM (eta 0) to DDPM (eta 1)."""

    def sample(predict, x, coarse, **options):
        return denoise(predict, x, schedule, steps, eta=eta, spacing=spacing, clip=1.0, **options)

    return sample
