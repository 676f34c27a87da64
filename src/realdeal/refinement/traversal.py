"""The order in which patches are refined: from the centre outward (paper, figure 2A).

`published` generalises the traversal of the published runs to any volume, patch size and stride.
A plan is a list of passes; the patches of one pass do not depend on each other and are denoised
together.
"""

from dataclasses import dataclass
from math import ceil

from realdeal.refinement.masks import FULL


@dataclass(frozen=True)
class Pass:
    """Patches refined together: their corners in the padded volume, and what is made of each."""

    corners: tuple[tuple[int, int, int], ...]
    direction: tuple[int, int] | None  # FULL, or (axis, side) of the part to be made


@dataclass(frozen=True)
class Plan:
    """How a volume of `shape` is refined: `padding` voxels ((before, after) per axis), passes."""

    shape: tuple[int, int, int]
    patch_size: int
    stride: int
    padding: tuple[tuple[int, int], ...]
    passes: tuple[Pass, ...]

    @property
    def padded_shape(self):
        return tuple(n + a + b for n, (a, b) in zip(self.shape, self.padding, strict=True))

    @property
    def patches(self):
        """Number of patches of the whole volume."""
        return sum(len(p.corners) for p in self.passes)

    def written(self, corner, direction):
        """The slices of the padded volume that a patch writes."""
        window = [slice(c, c + self.patch_size) for c in corner]
        if direction is not FULL:
            axis, side = direction
            start = corner[axis] + (0 if side == 0 else self.patch_size - self.stride)
            window[axis] = slice(start, start + self.stride)
        return tuple(window)


def published_traversal(shape, patch_size, stride):
    """The published order for a volume of `shape` (x, y, z; RAS+).

    The centre patch is made whole. From it a row of patches grows to the posterior and anterior
    end, each step making `stride` voxels beside what is known; the row grows to a sheet
    (inferior, superior), the sheet to the volume (left, right). Sheets and slabs are covered by
    patches that do not overlap, so each of their steps is one pass.

    y and z are padded to whole patches, because later passes tile them; x only to whole strides.
    For 224 x 288 x 224, patch 64 and stride 32 this gives the published 139 patches in 20 passes.
    Raises ValueError if the stride does not divide the patch.
    """
    if not 0 < stride < patch_size or patch_size % stride:
        raise ValueError(f"stride {stride} must divide the patch size {patch_size} and be smaller")
    padding = []
    for axis, extent in enumerate(shape):
        unit = stride if axis == 0 else patch_size
        wanted = max(patch_size, ceil(extent / unit) * unit)
        missing = wanted - extent
        padding.append((missing // 2, missing - missing // 2))
    padded = [n + a + b for n, (a, b) in zip(shape, padding, strict=True)]
    centre = [((n - patch_size) // stride + 1) // 2 * stride for n in padded]
    x, y, z = centre
    tiles_y = range(0, padded[1], patch_size)
    tiles_z = range(0, padded[2], patch_size)

    def low(axis):
        return range(centre[axis] - stride, -1, -stride)

    def high(axis):
        return range(centre[axis] + stride, padded[axis] - patch_size + 1, stride)

    passes = [Pass(((x, y, z),), FULL)]
    passes += [Pass(((x, start, z),), (1, 0)) for start in low(1)]
    passes += [Pass(((x, start, z),), (1, 1)) for start in high(1)]
    for side, starts in enumerate((low(2), high(2))):
        passes += [Pass(tuple((x, v, start) for v in tiles_y), (2, side)) for start in starts]
    for side, starts in enumerate((low(0), high(0))):
        passes += [
            Pass(tuple((start, v, w) for v in tiles_y for w in tiles_z), (0, side))
            for start in starts
        ]
    return Plan(tuple(shape), patch_size, stride, tuple(padding), tuple(passes))
