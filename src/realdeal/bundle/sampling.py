"""Synthetic volumes from the bundle, on the study's grid."""

import nibabel as nib
import numpy as np
import torch

from realdeal.bundle.networks import load_bundle
from realdeal.data.volumes import Volume, load_volume
from realdeal.device import choose_device
from realdeal.diffusion.schedules import ETA, denoise
from realdeal.files import write_json
from realdeal.generators import generator_for
from realdeal.progress import progress
from realdeal.refinement.external import save_coarse
from realdeal.refinement.intensity import Intensity

# What becomes 0 and 1, in the order of the network's inputs: the extremes of the UK Biobank scans
# that it learnt from (Pinaya 2022 and its demonstration). Volumes are in mm3: of the ventricles
# UK Biobank's field 25004, of the brain, normalised for head size, its field 25009.
SEXES = ("F", "M")
RANGES = {
    "age": (44, 82),
    "ventricular_volume": (6995.68, 171375.0),
    "brain_volume": (1144240, 1793910),
}

# Where voxel (0, 0, 0) of a volume lies, which the bundle does not say. The rotation and the
# offsets (96.48, -141.48, -156.55) are those that the authors' demonstration writes; they are the
# whole grid's, of which the networks know the part from voxel (16, 16, 96) on (as the same authors'
# later training states it). So the volumes lie about the origin of MNI space, x to the left.
AFFINE = np.array(
    [
        [-1, 0, 0, 96.48149872 - 16],
        [0, 1, 0, -141.47715759 + 16],
        [0, 0, 1, -156.55375671 + 96],
        [0, 0, 0, 1],
    ]
)


@torch.no_grad()
def sample(study, folder, names, settings, seed, like):
    """Sample one volume of the bundle in `folder` for each name: study.volume("synthetic", name).

    `settings` is the config's `sampling.ldm` (published: ddim with 50 steps). Noise and covariates
    depend on the seed and the name alone. `like` is an original, whose grid the volumes take. What
    each was asked for is written beside it as <name>.json.
    """
    device = choose_device()
    bundle = load_bundle(folder, device)
    grid = load_volume(like)
    for name in progress(names, description="sampling", unit="volume"):
        asked = draw_covariates(seed, name)
        generator = generator_for(seed, "synthetic", name)
        data = generate(bundle, asked, generator, settings, device)
        path = study.volume("synthetic", name)
        save_coarse(path, to_study(data), grid, path)
        write_json(study.asked(name), asked)


def draw_covariates(seed, name):
    """Sex, age (years), ventricular and brain volume (mm3), each uniform over what was learnt."""
    draws = torch.rand(4, generator=generator_for(seed, "covariates", name)).tolist()
    asked = {"sex": SEXES[int(draws[0] * len(SEXES))]}
    for (covariate, (low, high)), draw in zip(RANGES.items(), draws[1:], strict=True):
        asked[covariate] = round(low + draw * (high - low), 1)
    return asked


def encode(asked):
    """Covariates as the network knows them: (1, 4), sex 0 for F and 1 for M, the others scaled."""
    scaled = [(asked[name] - low) / (high - low) for name, (low, high) in RANGES.items()]
    return torch.tensor([[float(SEXES.index(asked["sex"])), *scaled]])


def generate(bundle, asked, generator, settings, device="cpu"):
    """One volume of the covariates `asked`: (X, Y, Z) float32, about [0, 1]."""
    covariates = encode(asked).to(device)

    def noise():
        return torch.randn((1, *bundle.latent_shape), generator=generator).to(device)

    def predict(z, t):
        planes = covariates[:, :, None, None, None].expand(-1, -1, *z.shape[2:])
        return bundle.diffusion(
            torch.cat([z, planes], 1),
            timesteps=torch.full((len(z),), t, device=device),
            context=covariates[:, None],
        )

    latents = denoise(
        predict,
        noise(),
        bundle.scheduler,
        settings["steps"],
        eta=ETA[settings["sampler"]],
        spacing=settings["spacing"],
        clip=1.0 if bundle.scheduler.clip_sample else None,
        noise=noise,
    )
    # The networks were trained on latents as they are: there is no factor between them.
    return bundle.autoencoder.decode(latents)[0, 0].float().cpu().numpy()


def to_study(data):
    """The network's volume (X, Y, Z) as an RAS+ `Volume` in [-1, 1]."""
    image = nib.as_closest_canonical(nib.Nifti1Image(Intensity(0, 1).to_model(data), AFFINE))
    return Volume(np.ascontiguousarray(image.dataobj), image.affine)
