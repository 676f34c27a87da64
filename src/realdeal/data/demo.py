"""The demo cohort: individual brains with the physics of a T1w scan, made offline.

Every subject is a smooth, invertible deformation of the ICBM152 2009a anatomy that nilearn
packages, with sulci, folia and ventricles of its own, imaged as a scanner would: tissue
contrast, coil bias, partial volume and Rician noise. So the cohort has what the paper measures
(fine anatomy, texture and noise of a known level) and, unlike real scans, its noise-free truth.
All sizes are in mm: the recipe does not depend on the voxel size.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from realdeal.data import regions
from realdeal.data.volumes import Volume, save_intensities, save_labels
from realdeal.errors import InputError
from realdeal.files import write_json
from realdeal.progress import progress

OVERSAMPLING = 2  # anatomy is drawn at half the voxel size, then averaged: partial volume
CENTRE = np.array([0.0, -16.0, 4.0])  # of the field of view, mm from the anterior commissure

# Mean intensities of T1w tissue, in units in which fat-free white matter has about 0.8.
CSF, GREY, WHITE = 0.14, 0.50, 0.80

# Compartments of the template.
CEREBRUM, DEEP, BRAINSTEM, HINDBRAIN = 1, 2, 3, 4


class Subject(NamedTuple):
    """One scan session; arrays (X, Y, Z) RAS+, float32 intensities of about 0..1.2."""

    t1w: np.ndarray
    rescan: np.ndarray  # the same brain with a second draw of the noise
    truth: np.ndarray  # without noise
    labels: np.ndarray  # uint8, codes of realdeal.data.regions
    affine: np.ndarray  # (4, 4) float64, mm
    covariates: dict


class Template(NamedTuple):
    """Maps (197, 233, 189) at 1 mm that are carried over to each subject."""

    affine: np.ndarray
    white: np.ndarray  # log-odds of white against grey matter
    csf: np.ndarray  # log-odds of cerebrospinal fluid against grey matter
    depth: np.ndarray  # mm below the surface of the brain, negative outside
    ventricles: np.ndarray  # membership 0..1 of the lateral ventricles
    hindbrain: np.ndarray  # membership 0..1 of the cerebellum
    mantle: np.ndarray  # 0..1, where the cortex folds
    regional: np.ndarray  # intensity of this place beyond that of its tissue
    compartment: np.ndarray  # int8
    centre: np.ndarray  # of the cerebrum, mm

    def sample(self, name, points, order=1):
        """Values of one map at world points (3, N)."""
        indices = points - self.affine[:3, 3:]
        return ndimage.map_coordinates(
            getattr(self, name), indices, order=order, mode="nearest", prefilter=False
        )


@cache
def template():
    """The ICBM152 2009a maps and the geometry that is derived from them, once per process."""
    import nilearn.datasets

    folder = Path(nilearn.datasets.__file__).parent / "data"
    maps = {}
    for kind in ("t1", "gm", "wm"):
        image = nib.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")
        maps[kind] = np.asarray(image.dataobj).astype(np.float32) / 255
    affine = image.affine
    t1, grey, white = maps["t1"], maps["gm"], maps["wm"]
    brain = ndimage.binary_fill_holes(t1 > 0)
    fluid = np.clip(1 - grey - white, 0, 1)  # outside the brain too: it is bathed in fluid

    x, y, z = (
        np.arange(size, dtype=np.float32).reshape(np.roll([-1, 1, 1], axis)) + affine[axis, 3]
        for axis, size in enumerate(t1.shape)
    )
    ventricles = _lateral_ventricles(fluid * brain, x, y, z)
    compartment = _compartments(t1, brain, ventricles, x, y, z)
    depth = ndimage.gaussian_filter(_signed_distance(brain), 1.5)
    tissue = fluid * CSF + grey * GREY + white * WHITE
    # The template's own scale, mapped to ours by its pure tissues.
    contrast = np.polyfit([0.26, 0.643, 0.875], [CSF, GREY, WHITE], 1)
    regional = ndimage.gaussian_filter((np.polyval(contrast, t1) - tissue) * brain, 2.0)

    def log_odds(part):
        return np.log(np.clip(part, 0.004, 1) / np.clip(grey, 0.004, 1)).astype(np.float32)

    def membership(mask):
        return ndimage.gaussian_filter(mask.astype(np.float32), 0.7)

    mantle = ndimage.gaussian_filter((compartment == CEREBRUM).astype(np.float32), 2.0)
    cerebrum = np.argwhere(compartment == CEREBRUM).mean(0) + affine[:3, 3]
    return Template(
        affine=affine,
        white=log_odds(white),
        csf=log_odds(fluid),
        depth=depth,
        ventricles=membership(ventricles),
        hindbrain=membership(compartment == HINDBRAIN),
        mantle=mantle,
        regional=regional,
        compartment=compartment,
        centre=cerebrum,
    )


def _signed_distance(mask):
    """Distance to the surface of a mask in voxels, positive inside; float32."""
    inside = ndimage.distance_transform_edt(mask)
    outside = ndimage.distance_transform_edt(~mask)
    return (inside - outside).astype(np.float32)


def _lateral_ventricles(fluid, x, y, z):
    """The fluid that is connected with the ventricular bodies or the temporal horns."""
    box = (abs(x) < 45) & (y > -60) & (y < 45) & (z > -25) & (z < 38)
    components, _ = ndimage.label((fluid > 0.5) & box)
    bodies = (abs(x) > 5) & (abs(x) < 20) & (abs(y) < 10) & (z > 14) & (z < 24)
    horns = (abs(x) > 26) & (abs(x) < 34) & (y > -14) & (y < -8) & (z > -22) & (z < -16)
    seeds = np.unique(components[(bodies | horns) & (components > 0)])
    return np.isin(components, seeds)


def _compartments(t1, brain, ventricles, x, y, z):
    """Cerebral mantle, deep structures, brainstem and cerebellum, int8.

    Cerebellum and cerebrum are told apart by flooding the brightness from a marker in each: the
    floods meet in the dark tentorium. The brainstem is the midline in front of the fourth
    ventricle.
    """
    from skimage.segmentation import watershed

    stem = (
        (abs(x) < 21 - 0.1 * abs(z + 30))
        & (y < 0)
        & (y > -38 - 0.25 * (z + 30) - 0.012 * x**2)
        & (z < -4)
    )
    markers = np.zeros(t1.shape, np.int8)
    lobes = ((abs(x) - 25) / 22) ** 2 + ((y + 62) / 18) ** 2 + ((z + 43) / 12) ** 2 < 1
    vermis = (x / 6) ** 2 + ((y + 62) / 12) ** 2 + ((z + 28) / 12) ** 2 < 1
    markers[(lobes | vermis) & brain] = HINDBRAIN
    markers[brain & ((z > 8) | (y > -25) | ((z > -8) & (abs(x) > 22)))] = CEREBRUM
    markers[brain & stem] = BRAINSTEM
    fossa = np.s_[:, : int(135 - 20), : int(72 + 14)]
    result = np.where(brain, CEREBRUM, 0).astype(np.int8)
    result[fossa] = watershed(-t1[fossa], markers[fossa], mask=brain[fossa])
    # Deep structures: around the ventricles and the basal ganglia, where no cortex folds.
    core = ((abs(x) - 12) / 26) ** 2 + ((y + 6) / 42) ** 2 + ((z - 6) / 24) ** 2 < 1
    near = ndimage.distance_transform_edt(~ventricles) < 4
    result[(core | near) & (result == CEREBRUM)] = DEEP
    return result
