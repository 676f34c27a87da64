"""The packaged template on a study's grid: what scans are aligned to and regions taken from.

It is the anatomy that the demo cohort is made from (realdeal.data.demo): the ICBM152 2009a
average of 152 brains without their skulls, its tissue maps, and the cerebellum and the lateral
ventricles that are found in them.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from realdeal.data import demo, regions
from realdeal.data.volumes import Volume

ITERATIONS = 20  # of the fit of three tissues; the classes stand still before


class Atlas(NamedTuple):
    """Maps (X, Y, Z) float32 in 0..1 on the study's grid."""

    affine: np.ndarray  # (4, 4) float64, mm
    t1w: np.ndarray  # the average scan
    brain: np.ndarray
    white: np.ndarray  # chances of the tissues; the rest is grey matter
    csf: np.ndarray
    ventricles: np.ndarray  # lateral
    cerebellum: np.ndarray
    deep: np.ndarray  # basal ganglia and thalamus, whose grey matter is no cortex
    brainstem: np.ndarray

    def volume(self, name):
        """One map as `Volume`."""
        return Volume(getattr(self, name), self.affine)


MAPS = ("brain", "white", "csf", "ventricles", "cerebellum", "deep", "brainstem")


@cache
def atlas(spacing, shape):
    """The `Atlas` on a grid of `shape` (three voxel counts, a tuple) with `spacing` in mm.

    The grid is centred as the demo's, on the middle of the brain; every voxel is the mean of
    what it covers.
    """
    template = demo.template()
    odds = {name: np.exp(np.clip(getattr(template, name), -12, 12)) for name in ("white", "csf")}
    total = 1 + odds["white"] + odds["csf"]
    maps = {
        "t1w": template.t1w,
        "brain": template.depth > 0,
        "white": odds["white"] / total,
        "csf": odds["csf"] / total,
        "ventricles": template.ventricles,
        "cerebellum": template.compartment == demo.HINDBRAIN,
        "deep": template.compartment == demo.DEEP,
        "brainstem": template.compartment == demo.BRAINSTEM,
    }
    starts = [axis[0] for axis in demo.drawing_axes(spacing, shape)] - template.origin
    step = spacing / demo.OVERSAMPLING

    def on_grid(values):
        fine = ndimage.affine_transform(
            values.astype(np.float32),
            np.diag([step] * 3),
            starts,
            [demo.OVERSAMPLING * size for size in shape],
            order=1,
        )
        return demo.pool(fine)

    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = demo.CENTRE - spacing * (np.array(shape) - 1) / 2
    return Atlas(affine, **{name: on_grid(values) for name, values in maps.items()})


def segment(image, brain, maps):
    """Region codes (X, Y, Z) uint8 of a scan, from the atlas's maps registered to it.

    image: intensities (X, Y, Z); brain: bool mask; maps: dict of all `MAPS` but the brain. The
    chances of the tissues are multiplied by how well a voxel's intensity fits them: three
    Gaussians, fitted to this scan by expectation maximisation with the maps as priors
    (Ashburner & Friston 1997). The region then follows from the tissue and the place.
    """
    values = image[brain].astype(np.float64)
    white, csf = (np.clip(maps[name][brain], 0, 1) for name in ("white", "csf"))
    # No place is certain: what the average never shows may yet be there.
    priors = np.clip(np.stack([np.clip(1 - white - csf, 0, 1), white, csf]), 0.02, None)
    posteriors = priors / priors.sum(0)
    for _ in range(ITERATIONS):
        weights = posteriors.sum(1)
        means = posteriors @ values / weights
        spread = (posteriors * (values - means[:, None]) ** 2).sum(1) / weights
        spread = np.maximum(spread, 1e-6 * values.var() + 1e-12)[:, None]
        fit = np.exp(-((values - means[:, None]) ** 2) / (2 * spread)) / np.sqrt(spread)
        posteriors = priors * fit + 1e-30
        posteriors /= posteriors.sum(0)
    grey, white, csf = (posteriors.argmax(0) == tissue for tissue in range(3))
    place = {name: maps[name][brain] > 0.5 for name in ("cerebellum", "deep", "brainstem")}
    codes = np.full(len(values), regions.OTHER, np.uint8)
    cerebrum = ~(place["cerebellum"] | place["brainstem"])
    codes[white & cerebrum] = regions.WHITE_MATTER
    codes[grey & cerebrum & ~place["deep"]] = regions.GREY_MATTER
    codes[(maps["ventricles"][brain] > 0.5) & csf] = regions.VENTRICLES
    codes[place["cerebellum"] & ~csf] = regions.CEREBELLUM
    result = np.zeros(image.shape, np.uint8)
    result[brain] = codes
    return result
