"""A trained refiner, for arrays and for anyone's files."""

import logging

import nibabel as nib
import numpy as np

from realdeal.data.volumes import load_image, load_volume
from realdeal.device import choose_device
from realdeal.errors import InputError
from realdeal.files import atomic_path
from realdeal.generators import generator_for
from realdeal.networks.checkpoint import load_model
from realdeal.progress import progress
from realdeal.refinement.engine import refine_volumes
from realdeal.refinement.intensity import FOREGROUND, Intensity, check_litres, find_intensity
from realdeal.refinement.joint import refine_jointly
from realdeal.refinement.samplers import make_sampler
from realdeal.refinement.traversal import published_traversal

DEFAULTS = {
    "traversal": "joint",
    "sampler": "texture",
    "steps": 4,
    "spacing": "detail",
    "background": FOREGROUND,
    "batch_size": 16,
}

log = logging.getLogger(__name__)


class Refiner:
    """A trained refiner: `Refiner.load(path).refine(volume)`."""

    def __init__(self, network, description, device):
        self.network, self.description, self.device = network, description, device

    @classmethod
    def load(cls, path, device=None):
        """The refiner of a study (`models/refiner.safetensors`) on `device` (None: the best)."""
        device = choose_device(device)
        network, description, _ = load_model(path, "refiner", device)
        return cls(network, description, device)

    def refine(self, volume, *, seed=0, label="refining", **settings):
        """Refine one volume (X, Y, Z) of any shape, in [-1, 1] and RAS+; float32 alike.

        `settings` are those of `DEFAULTS`, the config's `sampling.refiner`.
        """
        return self.refine_all([volume], [generator_for(seed, "refine")], settings, label)[0]

    def refine_all(self, volumes, generators, settings, label="refining"):
        """Refine volumes of one shape, each with a torch CPU generator of its own; a list."""
        settings = DEFAULTS | settings
        size, stride = self.description["patch_size"], self.description["stride"]
        options = {
            "batch_size": settings["batch_size"],
            "background": settings["background"],
            "device": self.device,
        }
        sample = make_sampler(settings, self.description)
        if settings["traversal"] == "joint":
            total = len(volumes) * settings["steps"]
            with progress(total=total, description=label, unit="step") as bar:
                return [
                    refine_jointly(
                        self.network,
                        volume,
                        size,
                        sample,
                        generator=generator,
                        report=bar.update,
                        **options,
                    )
                    for volume, generator in zip(volumes, generators, strict=True)
                ]
        plan = published_traversal(volumes[0].shape, size, stride)
        total = plan.patches * len(volumes)
        with progress(total=total, description=label, unit="patch") as bar:
            return refine_volumes(
                self.network,
                volumes,
                plan,
                sample,
                generators=generators,
                report=bar.update,
                **options,
            )

    def refine_file(self, path, target, *, name, seed=0, intensity=None, **settings):
        """Refine a NIfTI file of any shape, orientation and intensity scale; write `target`.

        The volume must be skull-stripped, with a background of one value below the brain's.
        `intensity` gives the values that become -1 (background) and 1; None finds them. Affine,
        header and units of the result are those of the file, its voxels float32. The noise
        depends on the seed and the name. InputError for what cannot be refined; a warning for
        voxels of another size than those learnt, and for what does not look like a brain alone.
        """
        image = load_image(path)
        volume = load_volume(path, image)
        try:
            scale = Intensity(*intensity) if intensity else self._find_intensity(volume.data)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        coarse = scale.to_model(volume.data)
        self._check(path, coarse, volume.spacing, (volume.data > scale.high).mean())
        if scale != (-1, 1):
            print(f"{path}: intensities {scale.low:g} to {scale.high:g} become -1 to 1")
        generator = generator_for(seed, "refine", name)
        (refined,) = self.refine_all([coarse], [generator], settings)
        # From RAS+ back to the order of the file.
        order = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.io_orientation(image.affine)
        )
        data = nib.orientations.apply_orientation(scale.back(refined), order)
        header = image.header.copy()
        header.set_data_dtype(np.float32)
        result = type(image)(data.reshape(image.shape), image.affine, header)
        with atomic_path(target) as temporary:
            nib.save(result, temporary)

    def _find_intensity(self, data):
        return find_intensity(data, self.description["foreground_quantile"])

    def _check(self, path, coarse, spacing, clipped):
        foreground = coarse > FOREGROUND
        if not foreground.any():
            raise InputError(f"{path}: nothing lies above the background; check its intensities")
        check_litres(path, foreground, spacing)
        learnt = np.array(self.description["voxel_size"])
        if not np.allclose(spacing, learnt, rtol=0.1):
            log.warning(
                "%s: its voxels have %s mm, those learnt %s; detail will have the wrong size: "
                "resample it, or train at its grid",
                path,
                " x ".join(f"{s:.3g}" for s in spacing),
                " x ".join(f"{s:.3g}" for s in learnt),
            )
        if clipped > 1e-3:
            log.warning("%s: %.1f %% of its voxels are clipped", path, 100 * clipped)
