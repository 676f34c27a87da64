"""The patches of a way of refining (the config's `sampling.refiner`): how many, where they meet."""

from realdeal.refinement.joint import grid_offsets, padded_shape, tiles
from realdeal.refinement.traversal import published_traversal

PAPER_GRID = (224, 288, 224), 64, 32  # shape, patch, stride


def evaluations(way, shape, patch_size, stride):
    """Network evaluations (patches times steps) for one volume, no background skipped."""
    if way["traversal"] == "joint":
        return len(tiles(padded_shape(shape, patch_size), patch_size, 0)) * way["steps"]
    return published_traversal(shape, patch_size, stride).patches * way["steps"]


def patch_grid(way, shape, patch_size, stride):
    """Spacing and offsets (x, y, z) of the planes at which the patches of a refined volume meet."""
    if way["traversal"] == "joint":
        return patch_size, grid_offsets(patch_size, max(way["steps"] - 1, 0))
    padding = published_traversal(shape, patch_size, stride).padding
    return stride, tuple(-before % stride for before, _ in padding)
