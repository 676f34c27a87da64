"""Noise: the residual of ANTs' adaptive non-local means and its histogram (paper, Table 3)."""

import os

import numpy as np
from scipy import ndimage

from realdeal.errors import InputError

# ITK's filter gives other digits with other numbers of threads; it asks for them when it is loaded.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
MODELS = ("Rician", "Gaussian")
# How far a voxel's result looks at the filter mask: overlapping patches of radius 1; for Rician
# noise also the smoothing of the bias (Gaussian of variance 2, cut by ITK at 4 voxels).
REACH = {"Gaussian": 1, "Rician": 5}
# The filter has an absolute threshold of 1e-5 on local variance. In units of about a thousand,
# as a scanner gives, it plays no part; in units of 1 it would leave smooth volumes undenoised.
UNITS = 1000.0


def noise_residual(volume, region, model):
    """`volume` minus its denoised self, exact inside `region`, 0 elsewhere.

    `volume` (X, Y, Z) in [-1, 1] with background -1; it is shifted to start at 0 before it is
    denoised, because the filter takes magnitudes: it leaves voxels <= 0 alone and the Rician
    model squares them. `region` is a mask of the same shape; `model` is `Rician` or `Gaussian`.
    Only the surroundings of the region that its result depends on are denoised, on the bounding
    box of the foreground: the largest intensity of the box, which the filter uses, is then that
    of the whole. Distances are in voxels. The filter's result hangs on the number of ITK
    threads: one, unless ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS says otherwise.
    """
    import ants

    region = np.asarray(region, dtype=bool)
    if model not in MODELS:
        raise InputError(f"evaluation.noise.model: {model!r} is none of {MODELS}")
    if volume.shape != region.shape:
        raise InputError(f"volume {volume.shape} and region {region.shape} differ in shape")
    if not region.any():
        raise InputError("the region is empty; check the region file")
    if not np.isfinite(volume).all():
        raise InputError("the volume holds NaN or infinite values; make it again")
    magnitude = (np.asarray(volume, dtype=np.float32) + 1) * UNITS
    if np.ptp(magnitude[region]) == 0:
        raise InputError("the volume is constant in the region; make it again")

    box = _bounding_box((magnitude > magnitude.min()) | region, margin=4)
    surroundings = ndimage.maximum_filter(region[box].view(np.uint8), 2 * REACH[model] + 1)
    inside = np.ascontiguousarray(magnitude[box])
    denoised = ants.denoise_image(
        ants.from_numpy(inside),
        mask=ants.from_numpy(surroundings.astype(np.float32)),
        shrink_factor=1,
        p=1,
        r=2,
        noise_model=model,
    ).numpy()
    residual = np.zeros(volume.shape, dtype=np.float32)
    residual[box] = np.where(region[box], (inside - denoised) / UNITS, 0)
    return residual


def _bounding_box(mask, margin):
    """Slices around the true voxels of `mask`, with a margin that stays in the volume."""
    where = np.argwhere(mask)
    low = np.maximum(where.min(axis=0) - margin, 0)
    return tuple(map(slice, low, where.max(axis=0) + 1 + margin))


def histogram(values, bins, limits):
    """Counts (bins,) of `values` over the fixed range `limits`; outliers fall in the end bins."""
    return np.histogram(np.clip(values, *limits), bins=bins, range=tuple(limits))[0]


def kl_divergence(original, variant, pseudocount):
    """KL(original || variant) in nats from two histograms of counts over the same bins.

    `pseudocount` is added to every bin of both before they are normalised, so that the divergence
    is finite where the variant has an empty bin. Counts (..., bins) give (...).
    """
    p, q = (np.asarray(counts, dtype=np.float64) for counts in (original, variant))
    if p.shape[-1] != q.shape[-1]:
        raise InputError(f"histograms of {p.shape[-1]} and {q.shape[-1]} bins; extract them again")
    if pseudocount < 0 or (p.sum(-1) == 0).any() or (q.sum(-1) == 0).any():
        raise InputError("histograms need at least one count and a pseudocount of at least 0")
    p = (p + pseudocount) / (p + pseudocount).sum(-1, keepdims=True)
    q = (q + pseudocount) / (q + pseudocount).sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    return terms.sum(-1)
