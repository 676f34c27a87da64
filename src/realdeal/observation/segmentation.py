"""Ventricular and brain volume, counted in a Bayesian segmentation.

The posterior of a region is its share of the training labels at the place (an atlas, smoothed)
times the likelihood of the intensity within it, as in Ashburner and Friston 2005.
"""

import numpy as np
from scipy import ndimage

from realdeal.data.regions import BACKGROUND, NAMES, VENTRICLES

COUNTED = ("ventricular_volume", "brain_volume")
REGIONS = range(len(NAMES) + 1)
BINS = 64  # of intensities
SMOOTH = 1.5  # voxels, of the atlas
LEAST = 1e-5  # share of a region anywhere: a floor, before normalisation
DARK = -0.9  # and below is background: synthetic volumes are not quite -1 there


class Segmenter:
    """atlas (6, X, Y, Z), likelihood (6, bins) and calibration (2, 2): slopes, offsets in mm^3."""

    def __init__(self, atlas, likelihood, calibration=((1.0, 1.0), (0.0, 0.0))):
        self.atlas, self.likelihood = atlas, likelihood
        self.calibration = np.asarray(calibration, dtype=np.float64)

    @classmethod
    def fit(cls, pairs):
        """From pairs of a volume in [-1, 1] and its regions, both (X, Y, Z)."""
        atlas, counts, number = 0.0, np.full((len(REGIONS), BINS), 0.5), 0
        for volume, labels in pairs:
            masks = np.stack([labels == region for region in REGIONS])
            atlas, number = atlas + masks.astype(np.float32), number + 1
            bins = _bins(volume)
            counts += [np.bincount(bins[mask], minlength=BINS) for mask in masks]
        atlas = np.stack([ndimage.gaussian_filter(a / number, SMOOTH) for a in atlas]) + LEAST
        counts = ndimage.gaussian_filter1d(counts / counts.sum(1, keepdims=True), 1.0, axis=1)
        return cls((atlas / atlas.sum(0)).astype(np.float32), counts.astype(np.float32))

    def calibrate(self, counted, known):
        """Put counts on the scale of the labels: both lists of dicts with the keys of COUNTED."""
        lines = [
            np.polyfit([row[key] for row in counted], [float(row[key]) for row in known], 1)
            for key in COUNTED
        ]
        self.calibration = np.array(lines).T

    def count(self, volume, affine):
        """{ventricular_volume, brain_volume} in mm^3: expected numbers of voxels, calibrated."""
        posterior = self.atlas * self.likelihood[:, _bins(volume)]
        posterior /= posterior.sum(0)
        voxel = abs(np.linalg.det(affine[:3, :3]))
        ventricles = float(posterior[VENTRICLES].sum(dtype=np.float64) * voxel)
        brain = float((1 - posterior[BACKGROUND]).sum(dtype=np.float64) * voxel) - ventricles
        counted = np.array([ventricles, brain]) * self.calibration[0] + self.calibration[1]
        return dict(zip(COUNTED, counted.round(3).tolist(), strict=True))


def _bins(volume):
    bins = np.clip(((volume + 1) / 2 * BINS).astype(np.int64), 0, BINS - 1)
    return np.where(volume < DARK, 0, bins)
