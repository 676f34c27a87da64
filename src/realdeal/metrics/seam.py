"""Seams that a patch-wise refiner leaves at the borders of its patches."""

import numpy as np

from realdeal.errors import InputError


def seam_score(volume, mask, spacing, offsets=(0, 0, 0)):
    """How much larger the jump across the planes of a patch grid is than beside them.

    For each axis: the mean of |v[p] - v[p - 1]| over the planes p = offset + spacing, offset + 2
    spacing, ..., divided by the same mean over the two planes on either side of each, both over
    pairs of voxels that lie in `mask`. 1 means no seam. Returns (3,) float64, NaN for an axis with
    no plane of the grid in the mask. InputError if the volume is constant there or no axis has a
    plane.
    """
    mask = np.asarray(mask, dtype=bool)
    if volume.shape != mask.shape:
        raise InputError(f"volume {volume.shape} and mask {mask.shape} differ in shape")
    if not np.isfinite(volume[mask]).all():
        raise InputError("the volume holds NaN or infinite values; make it again")
    scores = np.full(3, np.nan)
    for axis in range(3):
        values = np.moveaxis(volume, axis, 0).astype(np.float64)
        inside = np.moveaxis(mask, axis, 0)
        pairs = inside[1:] & inside[:-1]  # pair i lies across plane i + 1
        jumps = (np.abs(np.diff(values, axis=0)) * pairs).sum(axis=(1, 2))
        counts = pairs.sum(axis=(1, 2))
        first = offsets[axis] % spacing or spacing
        planes = np.arange(first, len(values), spacing)
        beside = (planes[:, None] + [-2, -1, 1, 2]).ravel()
        beside = beside[(beside > 0) & (beside < len(values)) & ~np.isin(beside, planes)]
        if counts[planes - 1].sum() == 0 or counts[beside - 1].sum() == 0:
            continue
        base = jumps[beside - 1].sum() / counts[beside - 1].sum()
        if base == 0:
            raise InputError("the volume is constant inside the brain; make it again")
        scores[axis] = jumps[planes - 1].sum() / counts[planes - 1].sum() / base
    if np.isnan(scores).all():
        raise InputError(f"no plane of a patch grid of {spacing} voxels cuts the brain")
    return scores
