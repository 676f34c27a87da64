"""Refinement of whole volumes: patches of a plan, one pass after another."""

import numpy as np
import torch
from torch.nn import functional as F

from realdeal.refinement.masks import make_mask

OUTSIDE = -1.0  # value of the padding: background


def _windows(volume, corners, size):
    """Patches (len(corners), 1, P, P, P) of a padded volume."""
    return torch.stack([volume[x : x + size, y : y + size, z : z + size] for x, y, z in corners])[
        :, None
    ]


def finished(volume, condition, background):
    """A refined volume as float32 array in [-1, 1], its background as in the coarse `condition`."""
    volume = volume.clamp(-1, 1)
    if background is not None:
        volume = torch.where(condition <= background, OUTSIDE, volume)
    return volume.cpu().numpy()


@torch.no_grad()
def refine_volumes(
    network,
    coarse,
    plan,
    sample,
    *,
    generators,
    batch_size=16,
    background=None,
    device="cpu",
    report=None,
):
    """Refine volumes of one shape together with a sampler of `realdeal.refinement.samplers`.

    `coarse` is a list of float32 arrays (X, Y, Z) in [-1, 1] of the plan's shape; `generators`
    gives one torch CPU generator for each, so that a volume's result depends on its own generator
    alone and not on its company. In each pass the patches of all volumes are denoised in batches
    of `batch_size`; the known part of a patch stays clean in x_t and in y_prev, and only the part
    that the plan announces is written (facts of the published runs). Voxels whose coarse value is
    at or below `background` are set to -1 in the end (None: left as they are), and patches that
    would make nothing but such voxels are skipped. `report(n)` is called with the number of
    patches done.

    Returns a list of float32 arrays (X, Y, Z) in [-1, 1].
    """
    size = plan.patch_size
    pad = [n for before_after in reversed(plan.padding) for n in before_after]
    conditions = [
        F.pad(torch.from_numpy(np.ascontiguousarray(v)), pad, value=OUTSIDE).to(device)
        for v in coarse
    ]
    refined = [torch.full_like(c, OUTSIDE) for c in conditions]
    for pass_ in plan.passes:
        mask = make_mask(size, pass_.direction, plan.stride).to(device)
        jobs, starts = [], []
        for index, condition in enumerate(conditions):
            for corner in pass_.corners:
                # Noise is drawn in the order of the plan for each volume, before any batching.
                start = torch.randn(size, size, size, generator=generators[index])
                made = condition[plan.written(corner, pass_.direction)]
                if background is not None and bool((made <= background).all()):
                    report and report(1)  # it would become background in the end
                    continue
                jobs.append((index, corner))
                starts.append(start.to(device))
        if not jobs:
            continue
        outputs = []
        for first in range(0, len(jobs), batch_size):
            chosen = jobs[first : first + batch_size]
            condition = torch.cat([_windows(conditions[i], [c], size) for i, c in chosen])
            known = torch.cat([_windows(refined[i], [c], size) for i, c in chosen])
            start = torch.stack(starts[first : first + batch_size])[:, None]
            condition, known, start = (
                x.contiguous(memory_format=torch.channels_last_3d)
                for x in (condition, known, start)
            )
            # The same noise stands in y_prev and starts the sampling, as in the published runs.
            previous = torch.lerp(known, start, mask)

            def predict(x, t, condition=condition, previous=previous):
                t = torch.full((len(x),), t, device=x.device)
                return network(x, t, condition, previous).float()

            def fresh(chosen=chosen):
                return torch.stack(
                    [torch.randn(size, size, size, generator=generators[i]) for i, _ in chosen]
                )[:, None].to(device)

            outputs.append(
                sample(
                    predict,
                    previous,
                    condition,
                    noise=fresh,
                    constrain=lambda x, known=known, mask=mask: torch.where(mask > 0, x, known),
                )[:, 0]
            )
            if report is not None:
                report(len(chosen))
        for (index, corner), output in zip(jobs, torch.cat(outputs), strict=True):
            window = plan.written(corner, pass_.direction)
            inner = tuple(
                slice(w.start - c, w.stop - c) for w, c in zip(window, corner, strict=True)
            )
            refined[index][window] = output[inner]
    inside = tuple(
        slice(before, before + n) for (before, _), n in zip(plan.padding, plan.shape, strict=True)
    )
    return [
        finished(volume[inside], condition[inside], background)
        for volume, condition in zip(refined, conditions, strict=True)
    ]
