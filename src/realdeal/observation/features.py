"""What linear models and trees are shown of a volume."""

import numpy as np
from scipy import ndimage

from realdeal.data.regions import GREY_MATTER, VENTRICLES, WHITE_MATTER

CELL = 16.0  # mm, side of the cells of a coarse grid
FINE, BLOB, MASS = 2.4, 6.0, 10.0  # mm: noise is averaged over, plaques and tumours are not
FLOOR = 0.03  # least standard deviation of the norm: noise alone leaves as much
DEVIATIONS = (1.5, 2.5, 3.5, 5.0)  # standard deviations


def cells(volume, spacing):
    """Mean, brightest and darkest voxel of each cell of a grid of 16 mm: (3 x cells,)."""
    size = [max(1, round(CELL / s)) for s in spacing]
    padding = [(0, -n % s) for n, s in zip(volume.shape, size, strict=True)]
    padded = np.pad(volume, padding, constant_values=-1)
    x, y, z = (n // s for n, s in zip(padded.shape, size, strict=True))
    blocks = padded.reshape(x, size[0], y, size[1], z, size[2]).transpose(0, 2, 4, 1, 3, 5)
    blocks = blocks.reshape(x * y * z, -1)
    mean = blocks.mean(1)
    return np.concatenate([mean, blocks.max(1) - mean, mean - blocks.min(1)])


def fine(volume, spacing):
    """The volume as it is compared with the norm."""
    return ndimage.gaussian_filter(volume, FINE / np.asarray(spacing))


class Norm:
    """What is normal: sums over `fine` volumes of scans without disease."""

    def __init__(self, sums=0.0, squares=0.0, number=0):
        self.sums, self.squares, self.number = sums, squares, number

    def add(self, volume, times=1):
        """The norm with a scan more, or, with times -1, without it."""
        volume = volume.astype(np.float64)
        return Norm(
            self.sums + times * volume, self.squares + times * volume**2, self.number + times
        )

    def deviation(self, volume):
        """By how many standard deviations a `fine` volume differs, at each voxel."""
        mean = self.sums / self.number
        variance = ndimage.gaussian_filter((self.squares / self.number - mean**2).clip(0), 1.0)
        return (volume - ndimage.gaussian_filter(mean, 0.7)) / np.sqrt(variance + FLOOR**2)

    def polarity(self, where):
        """-1 where white matter is brighter than grey, as in T1w, else 1.

        Times it, most lesions and fluid deviate upwards in every modality.
        """
        white, grey = (self.sums[where[tissue]].mean() for tissue in ("white", "grey"))
        return -1 if white > grey else 1


def masks(atlas):
    """Where deviations are counted, from the atlas of regions (6, X, Y, Z)."""
    inside = atlas[0] < 0.5
    near = ndimage.gaussian_filter(atlas[VENTRICLES], 2.0) > 0.03
    return {
        "white": (atlas[WHITE_MATTER] > 0.5) & ~near,
        "grey": (atlas[GREY_MATTER] > 0.4) & ~near,
        "periventricular": near & inside,
        "ventricles": atlas[VENTRICLES] > 0.3,
        "brain": inside,
    }


def deviations(volume, norm, where, spacing):
    """How a volume differs from the norm, wherever it does: (features,) float.

    In each mask the shares of voxels that deviate by so much, the mean and spread, a histogram of
    intensities and of small blobs; over the brain the extremes of the smoothed deviation, its
    asymmetry and the largest patches that deviate. Deviations and blobs have the sign that they
    would have in T2w (`Norm.polarity`), so that one model serves all modalities.
    """
    spacing = np.asarray(spacing)
    sign = norm.polarity(where)
    z = sign * norm.deviation(fine(volume, spacing)) * where["brain"]
    blobs = sign * (volume - ndimage.gaussian_filter(volume, BLOB / spacing))
    found = []
    for mask in where.values():
        inside = z[mask]
        found += [(side * inside > t).mean() for side in (1, -1) for t in DEVIATIONS]
        found += [inside.mean(), inside.std()]
        found += (np.histogram(volume[mask], bins=16, range=(-1, 1))[0] / mask.sum()).tolist()
        found += [*np.percentile(blobs[mask], [1, 5, 95, 99]), blobs[mask].std()]
    for width in (BLOB, MASS):
        smooth = ndimage.gaussian_filter(z, width / 1.5 / spacing)
        asymmetry = smooth - smooth[::-1]
        found += [smooth.max(), smooth.min(), *np.percentile(smooth[where["brain"]], [1, 99])]
        found += [np.abs(asymmetry).max(), asymmetry[where["brain"]].std()]
    for side in (1, -1):
        patches, _ = ndimage.label(side * z > 2.5)
        sizes = np.sort(np.bincount(patches.ravel())[1:])[::-1]
        found += [sizes[:1].sum(), sizes[:5].sum(), np.count_nonzero(sizes > 2)]
    return np.array(found, dtype=np.float64)
