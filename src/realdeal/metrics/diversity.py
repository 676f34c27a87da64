"""Similarity of whole volumes: PSNR, SSIM, MS-SSIM and 4-G-R-SSIM.

Between original and reconstruction these measure fidelity; between pairs of synthetic volumes
they measure diversity (lower is more diverse; Pinaya et al. 2022). Volumes are (X, Y, Z) in
[-1, 1]; they are compared in [0, 1].
"""

import numpy as np
import torch
import torch.nn.functional as F

from realdeal.errors import InputError

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, fine to coarse


def psnr(first, second):
    """Peak signal-to-noise ratio in dB; infinite for equal volumes."""
    first, second = _pair(first, second)
    error = torch.mean((first - second) ** 2).item()
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def ssim(first, second):
    """Structural similarity (Wang et al. 2004): Gaussian window of sigma 1.5, 11 voxels wide."""
    from skimage.metrics import structural_similarity

    first, second = (volume.numpy() for volume in _pair(first, second, smallest=11))
    return float(
        structural_similarity(
            first, second, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
        )
    )


def ms_ssim_levels(shape, kernel=11):
    """How many of the five scales fit: the coarsest must be wider than the window.

    MONAI asks for side // (levels - 1)^2 >= kernel, halving for side // 2^(levels - 1) >= kernel;
    the rule takes the most levels that meet both. InputError if not even one does.
    """
    for levels in range(len(MS_SSIM_WEIGHTS), 0, -1):
        if min(shape) // max((levels - 1) ** 2, 2 ** (levels - 1)) >= kernel:
            return levels
    raise InputError(f"volume {tuple(shape)}: sides must be at least {kernel} voxels for SSIM")


def ms_ssim(first, second, kernel=11):
    """Multi-scale SSIM by MONAI, over `ms_ssim_levels` scales with weights scaled to sum 1."""
    from monai.metrics import MultiScaleSSIMMetric

    first, second = _pair(first, second)
    weights = np.array(MS_SSIM_WEIGHTS[: ms_ssim_levels(first.shape, kernel)])
    metric = MultiScaleSSIMMetric(
        spatial_dims=3,
        data_range=1.0,
        kernel_size=kernel,
        weights=tuple((weights / weights.sum()).tolist()),
    )
    return float(metric(first.float()[None, None], second.float()[None, None]).mean())


def four_g_r_ssim(
    reference, image, kernel=11, sigma=1.5, k=(0.01, 0.03), weights=(0.25, 0.25, 0.25, 0.25)
):
    """4-G-R-SSIM of a volume and its reference, at one scale; 1 for equal volumes.

    Four components (Li and Bovik 2010): preserved edges, changed edges, smooth parts and texture,
    told apart by the gradient and averaged with `weights`; the weight of an empty component is
    shared by the others. Gradient based (Chen et al. 2006): contrast and structure are those of
    the gradient maps. Stabilised (Rouse and Hemami 2008): a fraction 0/0 counts as 1, structure is
    1 where neither map varies and 0 where only one does.
    """
    x, y = _pair(reference, image, smallest=kernel + 2)
    x, y = x[None, None], y[None, None]
    gx, gy = _gradient(x), _gradient(y)
    inner = (..., *(slice(1, -1),) * 3)
    c1, c2 = k[0] ** 2, k[1] ** 2

    def window(volume):
        for axis in range(3):
            shape = [1, 1, 1, 1, 1]
            shape[2 + axis] = kernel
            volume = F.conv3d(volume, profile.reshape(shape))
        return volume

    offsets = torch.arange(kernel, dtype=torch.float64) - (kernel - 1) / 2
    profile = torch.exp(-(offsets**2) / (2 * sigma**2))
    profile = profile / profile.sum()

    mx, my = window(x[inner]), window(y[inner])
    luminance = _ratio(2 * mx * my + c1, mx**2 + my**2 + c1)
    gmx, gmy = window(gx), window(gy)
    sx = (window(gx**2) - gmx**2).clamp(min=0).sqrt()
    sy = (window(gy**2) - gmy**2).clamp(min=0).sqrt()
    joint = window(gx * gy) - gmx * gmy
    contrast = _ratio(2 * sx * sy + c2, sx**2 + sy**2 + c2)
    structure = _ratio(joint + c2 / 2, sx * sy + c2 / 2)
    still_x, still_y = sx == 0, sy == 0
    structure = torch.where(still_x ^ still_y, torch.zeros_like(structure), structure)
    structure = torch.where(still_x & still_y, torch.ones_like(structure), structure)
    similarity = luminance * contrast * structure

    border = (kernel - 1) // 2
    trimmed = (..., *(slice(border, -border),) * 3)
    high, low = 0.12 * gx.max(), 0.06 * gx.max()
    gx, gy = gx[trimmed], gy[trimmed]
    preserved = (gx > high) & (gy > high)
    changed = ((gx > high) | (gy > high)) & ~preserved
    smooth = (gx < low) & (gy <= high) & ~preserved & ~changed
    texture = ~(preserved | changed | smooth)
    parts = [
        (weight, similarity[mask].mean())
        for weight, mask in zip(weights, (preserved, changed, smooth, texture), strict=True)
        if mask.any()
    ]
    spare = (sum(weights) - sum(weight for weight, _ in parts)) / len(parts)
    return max(0.0, float(sum((weight + spare) * value for weight, value in parts)))


def _gradient(volume):
    """Sum over the axes of the absolute Sobel-like derivative, without the outermost voxels.

    Each side of a kernel sums to 1/2: the centre weighs 0.1, its eight neighbours 0.05.
    """
    side = torch.full((3, 3), 0.05, dtype=volume.dtype)
    side[1, 1] = 0.1
    plane = torch.stack([-side, torch.zeros_like(side), side])
    kernels = torch.stack([plane, plane.permute(1, 0, 2), plane.permute(1, 2, 0)])[:, None]
    return F.conv3d(volume, kernels).abs().sum(dim=1, keepdim=True)


def _ratio(numerator, denominator):
    """The fraction, 1 where the denominator is 0."""
    empty = denominator == 0
    return torch.where(empty, 1.0, numerator / torch.where(empty, 1.0, denominator))


def _pair(first, second, smallest=1):
    """Two volumes of equal shape from [-1, 1] to float64 tensors in [0, 1]."""
    pair = [torch.as_tensor(np.asarray(volume), dtype=torch.float64) for volume in (first, second)]
    shapes = [tuple(volume.shape) for volume in pair]
    if shapes[0] != shapes[1] or len(shapes[0]) != 3:
        raise InputError(f"volumes of shapes {shapes[0]} and {shapes[1]}: need two equal (X, Y, Z)")
    if min(shapes[0]) < smallest:
        raise InputError(f"volume {shapes[0]}: sides must be at least {smallest} voxels")
    if not all(volume.isfinite().all() for volume in pair):
        raise InputError("a volume holds NaN or infinite values; make it again")
    return [(volume + 1) / 2 for volume in pair]
