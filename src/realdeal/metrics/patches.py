"""Patch locations: drawn once per subject, shared by all variants (paper, Section 3)."""

import numpy as np

from realdeal.errors import InputError


def draw_patches(mask, size, count, rng):
    """Corners of `count` 2-D patches per dimension and of `count` 3-D patches.

    The centre of a patch is a foreground voxel of `mask` (X, Y, Z), drawn uniformly; near the
    border the patch is shifted into the volume. Along each axis a patch spans
    min(`size`, extent) voxels. Returns `dim0`, `dim1`, `dim2` (count, 3), the lowest corners of
    the 2-D patches with the slice index on the axis of that name; `volume` (count, 3), the lowest
    corners of the 3-D patches; and `size` (3,), the sides. InputError if the mask is empty.
    """
    mask = np.asarray(mask, dtype=bool)
    foreground = np.argwhere(mask)
    if not len(foreground):
        raise InputError("no foreground voxel to draw patches from; check the region file")
    sides = np.minimum(size, mask.shape)

    def corners():
        centres = foreground[rng.integers(len(foreground), size=count)]
        return centres, np.clip(centres - sides // 2, 0, np.array(mask.shape) - sides)

    drawn = {}
    for dim in range(3):
        centres, starts = corners()
        starts[:, dim] = centres[:, dim]
        drawn[f"dim{dim}"] = starts
    drawn["volume"] = corners()[1]
    drawn["size"] = sides
    return drawn


def extract(volume, corners, size, dim):
    """The 2-D patches of `volume` (X, Y, Z) across axis `dim`, as (N, height, width).

    `corners` (N, 3) as `draw_patches` gives them; `size` is one number or one per axis.
    InputError if a patch would leave the volume.
    """
    corners = np.asarray(corners)
    sides = np.array(np.broadcast_to(size, 3))
    sides[dim] = 1
    if len(corners) and (corners.min() < 0 or (corners + sides > volume.shape).any()):
        raise InputError(
            f"patches of size {sides.tolist()} leave the volume {volume.shape}; draw them again"
        )
    rows, columns = (axis for axis in range(3) if axis != dim)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.moveaxis(volume, dim, 0), (sides[rows], sides[columns]), axis=(1, 2)
    )
    return windows[corners[:, dim], corners[:, rows], corners[:, columns]]
