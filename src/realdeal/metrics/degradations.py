"""Known degradations of a volume, to see what each metric sees.

Each function takes a float32 volume (X, Y, Z) in [-1, 1] with background -1 and a level, 0 for
none, and returns a volume of the same kind.
"""

import numpy as np
from scipy import ndimage


def blur(volume, sigma):
    """Gaussian blur; `sigma` in voxels."""
    return ndimage.gaussian_filter(volume, sigma) if sigma else volume.copy()


def add_noise(volume, sigma, seed=0):
    """Rician noise: the magnitude of signal and complex noise of standard deviation `sigma`.

    `sigma` is in units of [-1, 1]; the signal is the distance from the background, -1.
    """
    rng = np.random.default_rng(seed)
    real, imaginary = sigma * rng.normal(size=(2, *volume.shape))
    noisy = np.hypot(volume + 1 + real, imaginary) - 1
    return np.where(volume > -1, np.clip(noisy, -1, 1), volume).astype(np.float32)


def remove_noise(volume, share, truth):
    """Blend with the noise-free `truth`: `share` 1 leaves no noise."""
    return ((1 - share) * volume + share * truth).astype(np.float32)


def shift(volume, voxels):
    """Move along the first axis by a part of a voxel (linear interpolation, as a resampling)."""
    moved = ndimage.shift(volume, (voxels, 0, 0), order=1, mode="nearest")
    return moved.astype(np.float32)


def scale(volume, loss):
    """Scale the intensities, as distance from the background, by 1 - `loss`."""
    return ((volume + 1) * (1 - loss) - 1).astype(np.float32)


def seams(volume, step, stride=16):
    """Every other block of `stride` voxels a side is brighter by `step` (background stays)."""
    parity = sum(
        (np.arange(n) // stride).reshape([-1 if i == axis else 1 for i in range(3)])
        for axis, n in enumerate(volume.shape)
    )
    brighter = np.clip(volume + step * (parity % 2), -1, 1)
    return np.where(volume > -0.9, brighter, volume).astype(np.float32)


# Levels from none to strong; `truth` says that the function also takes the noise-free volume.
LEVELS = {
    "blur": (blur, (0, 0.3, 0.5, 0.8, 1.2), "sigma (voxels)"),
    "added noise": (add_noise, (0, 0.02, 0.04, 0.08, 0.16), "sigma"),
    "removed noise": (remove_noise, (0, 0.25, 0.5, 0.75, 1), "share"),
    "shift": (shift, (0, 0.1, 0.2, 0.35, 0.5), "voxels"),
    "lost intensity": (scale, (0, 0.05, 0.1, 0.2, 0.4), "share"),
    "seams": (seams, (0, 0.02, 0.04, 0.08, 0.16), "step"),
}


def degrade(name, level, volume, truth):
    """Degradation `name` of `LEVELS` at `level`."""
    function = LEVELS[name][0]
    return function(volume, level, truth) if function is remove_noise else function(volume, level)
