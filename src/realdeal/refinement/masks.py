"""Which part of a patch is to be made (paper, figure 2B)."""

import torch

# The six partial masks: (axis, side). Side 0 is the low end of the axis (left, posterior,
# inferior in RAS+), side 1 the high end. FULL masks the whole patch.
FULL = None
DIRECTIONS = tuple((axis, side) for axis in range(3) for side in (0, 1))


def make_mask(size, direction, thickness):
    """Mask (P, P, P) of ones where voxels are to be made, zeros where they are known.

    `direction` is FULL or an (axis, side) of DIRECTIONS; `thickness` voxels on that side are
    masked (the paper's half patch: size // 2).
    """
    if direction is FULL:
        return torch.ones(size, size, size)
    axis, side = direction
    mask = torch.zeros(size, size, size)
    mask.narrow(axis, 0 if side == 0 else size - thickness, thickness).fill_(1)
    return mask


def draw_masks(count, size, thickness, full_probability, generator):
    """`count` training masks (N, 1, P, P, P): full with that probability, else one of six."""
    masks = []
    for _ in range(count):
        full = float(torch.rand((), generator=generator)) < full_probability
        side = int(torch.randint(len(DIRECTIONS), (), generator=generator))
        masks.append(make_mask(size, FULL if full else DIRECTIONS[side], thickness))
    return torch.stack(masks)[:, None]
