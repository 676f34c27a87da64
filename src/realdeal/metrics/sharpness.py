"""Sharpness: variance of the Laplacian (paper, Table 4)."""

import numpy as np
from scipy import ndimage

from realdeal.errors import InputError


def sharpness(volume, corners, size, sigma=0.5):
    """Mean over 3-D patches of the variance of the Laplacian of the smoothed volume.

    The whole `volume` (X, Y, Z) is smoothed by a Gaussian of `sigma` voxels, then the 6-neighbour
    Laplacian (sum of the second differences along the three axes, `scipy.ndimage.laplace`) is
    taken, both with reflecting borders and in float64. `corners` (N, 3) and `size` (one number
    or one per axis) give the patches. The unit is that of the squared intensity.
    """
    volume = np.asarray(volume, dtype=np.float64)
    corners = np.asarray(corners)
    sides = np.broadcast_to(size, 3)
    if not np.isfinite(volume).all():
        raise InputError("the volume holds NaN or infinite values; make it again")
    if not len(corners) or corners.min() < 0 or (corners + sides > volume.shape).any():
        raise InputError(
            f"patches of size {sides.tolist()} do not fit the volume {volume.shape}; "
            "draw them again"
        )
    laplacian = ndimage.laplace(ndimage.gaussian_filter(volume, sigma))
    return float(np.mean([laplacian[tuple(map(slice, c, c + sides))].var() for c in corners]))
