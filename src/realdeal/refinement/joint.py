"""Joint refinement: the whole volume takes each denoising step together.

The published traversal finishes one patch after another, each beside its finished neighbours. Here
every step cuts the volume into patches that do not overlap, on a grid that moves from step to
step, so that what one step leaves at a border the next sees in the middle of a patch. The patches
of a step do not depend on each other.
"""

from itertools import count, product
from math import ceil

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.refinement.engine import OUTSIDE, finished

# Additive recurrence of Roberts' R3 sequence: successive grids lie far from each other.
GOLDEN = 1.2207440846057596
DRIFT = tuple(GOLDEN ** -(axis + 1) for axis in range(3))


def tiles(padded, patch_size, step):
    """Corners of the patches of one denoising step that cover a volume of shape `padded` (x, y, z).

    Each extent is a multiple of `patch_size`. Patches may begin at one end of the volume and go
    on at the other.
    """
    starts = (
        [shift + i * patch_size for i in range(extent // patch_size)]
        for extent, shift in zip(padded, grid_offsets(patch_size, step), strict=True)
    )
    return list(product(*starts))


def grid_offsets(patch_size, step):
    """Where the patches of a denoising step begin along each axis."""
    return tuple(int(patch_size * (step * drift % 1)) for drift in DRIFT)


def padded_shape(shape, patch_size):
    """The smallest multiples of `patch_size` that hold `shape`."""
    return tuple(ceil(n / patch_size) * patch_size for n in shape)


@torch.no_grad()
def refine_jointly(
    network,
    coarse,
    patch_size,
    sample,
    *,
    generator,
    batch_size=16,
    background=None,
    device="cpu",
    report=None,
):
    """Refine one float32 volume (X, Y, Z) in [-1, 1]; returns the same kind.

    Every patch is made whole, so the condition y_prev is noise (the paper's full mask). Arguments
    as `realdeal.refinement.engine.refine_volumes`; patches whose coarse voxels are all background
    are skipped. `report(1)` is called after each denoising step.
    """
    padded = padded_shape(coarse.shape, patch_size)
    missing = [want - have for want, have in zip(padded, coarse.shape, strict=True)]
    pad = [n for extent in reversed(missing) for n in (0, extent)]
    condition = F.pad(torch.from_numpy(np.ascontiguousarray(coarse)), pad, value=OUTSIDE)
    condition = condition.to(device)[None, None]

    def noise():
        return torch.randn(condition.shape, generator=generator).to(device)

    previous, calls = noise(), count()

    def place(corner):
        """Index of a patch; beyond the end it goes on at the beginning, background both."""
        along = (
            (torch.arange(c, c + patch_size, device=device) % n).view(-1, *[1] * (2 - axis))
            for axis, (c, n) in enumerate(zip(corner, padded, strict=True))
        )
        return tuple(along)

    def windows(volume, corners):
        cut = [volume[0, 0][place(corner)] for corner in corners]
        return torch.stack(cut)[:, None].contiguous(memory_format=torch.channels_last_3d)

    def predict(x, t):
        predicted = x.clone()  # outside the patches nothing is used
        corners = [
            corner
            for corner in tiles(padded, patch_size, next(calls))
            if background is None or (windows(condition, [corner]) > background).any()
        ]
        for first in range(0, len(corners), batch_size):
            chosen = corners[first : first + batch_size]
            time = torch.full((len(chosen),), t, device=device)
            made = network(
                windows(x, chosen), time, windows(condition, chosen), windows(previous, chosen)
            )
            for corner, patch in zip(chosen, made[:, 0].float(), strict=True):
                predicted[0, 0][place(corner)] = patch
        if report is not None:
            report(1)
        return predicted

    refined = sample(predict, noise(), condition, noise=noise)
    inside = tuple(slice(n) for n in coarse.shape)
    return finished(refined[0, 0][inside], condition[0, 0][inside], background)
