"""Volumes of another generator, brought to a study's grid and scale, to be refined and scored."""

import logging

import numpy as np
from scipy import ndimage

from realdeal.data.volumes import load_volume, save_volume
from realdeal.errors import InputError
from realdeal.progress import progress
from realdeal.refinement.intensity import (
    FOREGROUND,
    Intensity,
    check_litres,
    find_intensity,
    foreground_quantile,
)

KEPT = 0.98  # least share of a brain that the study's field of view must hold

log = logging.getLogger(__name__)


def import_coarse(study, files, like, intensity=None):
    """Write study.volume("synthetic", name) for each of the `files`, {name: path}.

    like: paths of originals of the study, whose grid and brightness the volumes take.
    intensity: the values that become -1 and 1, None to find them: what is in [-1, 1] stays,
    otherwise the smallest value is the background and the bright end is matched to the
    originals'. InputError if a volume has no background or does not lie in the field of view.
    """
    originals = [load_volume(path) for path in like]
    expected = foreground_quantile([original.data for original in originals])
    for name, path in progress(files.items(), description="importing", unit="volume"):
        volume = load_volume(path)
        try:
            scale = Intensity(*intensity) if intensity else find_intensity(volume.data, expected)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        coarse = volume._replace(data=scale.to_model(volume.data))
        foreground = coarse.data > FOREGROUND
        if not foreground.any():
            raise InputError(f"{path}: nothing lies above the background; check its intensities")
        placed = place(path, coarse, originals[0])
        check_litres(path, placed > FOREGROUND, originals[0].spacing)
        save_volume(study.volume("synthetic", name), placed, originals[0].affine)


def place(path, volume, like):
    """Values (X, Y, Z) of a volume in [-1, 1] on the grid of `like`; the rest is background.

    A volume of the same shape is taken to lie on that grid, since few generators write an affine
    that means anything. Any other is interpolated linearly by its world coordinates.
    """
    if volume.data.shape == like.data.shape:
        if not np.allclose(volume.affine, like.affine, atol=0.1 * like.spacing.min()):
            log.warning("%s: its affine is not the study's; its voxels are taken to be", path)
        return volume.data
    to_volume = np.linalg.inv(volume.affine) @ like.affine
    placed = ndimage.affine_transform(
        volume.data, to_volume[:3, :3], to_volume[:3, 3], like.data.shape, order=1, cval=-1
    )
    before = np.count_nonzero(volume.data > FOREGROUND) * np.prod(volume.spacing)
    after = np.count_nonzero(placed > FOREGROUND) * np.prod(like.spacing)
    if after < KEPT * before:
        raise InputError(
            f"{path}: only {100 * after / before:.0f} % of it lie in the study's field of view; "
            f"give it the study's shape {like.data.shape}, or an affine in the study's space"
        )
    if not np.allclose(volume.spacing, like.spacing, rtol=0.02):
        log.warning("%s: is interpolated to another voxel size, which smooths it", path)
    return placed
