"""Joint refinement: the whole volume takes each denoising step together.

The published traversal finishes one patch after another, each beside its finished neighbours. Here
every step cuts the volume into patches that do not overlap, on a grid that moves from step to
step: no border stays where it is, so none can show, and the patches of a step do not depend on
each other.
"""

from itertools import product
from math import ceil

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.diffusion.schedules import denoise
from realdeal.refinement.engine import OUTSIDE

# Additive recurrence of Roberts' R3 sequence: successive grids lie far from each other.
GOLDEN = 1.2207440846057596
DRIFT = tuple(GOLDEN ** -(axis + 1) for axis in range(3))


def tiles(shape, patch_size, step):
    """Corners of the patches of one denoising step, in a volume padded by `patch_size` before.

    They cover `shape` (x, y, z) without overlap; the grid's offset is a function of `step`.
    """
    starts = []
    for extent, drift in zip(shape, DRIFT, strict=True):
        shift = int(patch_size * (step * drift % 1))
        count = ceil((extent + shift) / patch_size)
        starts.append([patch_size - shift + i * patch_size for i in range(count)])
    return list(product(*starts))


@torch.no_grad()
def refine_jointly(
    network,
    coarse,
    patch_size,
    scheduler,
    *,
    generator,
    steps,
    eta=0.0,
    spacing="detail",
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
    pad = [n for extent in reversed(coarse.shape) for n in (patch_size, patch_size)]
    condition = F.pad(torch.from_numpy(np.ascontiguousarray(coarse)), pad, value=OUTSIDE).to(device)

    def noise():
        return torch.randn(condition.shape, generator=generator).to(device)

    previous, calls = noise(), iter(range(steps))

    def windows(volume, corners):
        cut = [volume[tuple(slice(c, c + patch_size) for c in corner)] for corner in corners]
        return torch.stack(cut)[:, None].contiguous(memory_format=torch.channels_last_3d)

    def predict(x, t):
        predicted = x.clone()  # outside the patches nothing is used
        corners = [
            corner
            for corner in tiles(coarse.shape, patch_size, next(calls))
            if background is None or (windows(condition, [corner]) > background).any()
        ]
        for first in range(0, len(corners), batch_size):
            chosen = corners[first : first + batch_size]
            time = torch.full((len(chosen),), t, device=device)
            made = network(
                windows(x, chosen), time, windows(condition, chosen), windows(previous, chosen)
            )
            for corner, patch in zip(chosen, made[:, 0].float(), strict=True):
                predicted[tuple(slice(c, c + patch_size) for c in corner)] = patch
        if report is not None:
            report(1)
        return predicted

    refined = denoise(
        predict, noise(), scheduler, steps, eta=eta, spacing=spacing, clip=1.0, noise=noise
    )
    inside = tuple(slice(patch_size, patch_size + n) for n in coarse.shape)
    refined, condition = refined[inside].clamp(-1, 1), condition[inside]
    if background is not None:
        refined = torch.where(condition <= background, OUTSIDE, refined)
    return refined.cpu().numpy()
