"""Texture: histograms of oriented gradients of many patches at once (paper, Table 2).

The descriptors are those of `skimage.feature.hog` with block_norm "L2-Hys" and no power-law
compression. The paper gives no parameters.
"""

import numpy as np

from realdeal.errors import InputError

CHUNK = 2**17  # pixels worked on at once: small enough for the cache
EPS = 1e-5  # as in scikit-image


def cell_histograms(patches, orientations=9, pixels_per_cell=8):
    """Gradient magnitude by direction in each cell.

    Patches (N, H, W) to (N, H // c, W // c, orientations), the mean over the cell's pixels of
    the gradient magnitude that falls in each of the unsigned directions of 180 / orientations
    degrees. Gradients are differences of the two neighbours, 0 on the border of the patch.
    InputError for NaN or patches smaller than a cell.
    """
    patches = np.asarray(patches)
    cell = pixels_per_cell
    if patches.ndim != 3 or min(patches.shape[1:]) < cell:
        raise InputError(f"patches {patches.shape}: need (N, H, W), no side below {cell} pixels")
    if not np.isfinite(patches).all():
        raise InputError("patches hold NaN or infinite values; make the volumes again")
    if patches.dtype != np.float64:
        patches = patches.astype(np.float32)
    count, height, width = patches.shape
    shape = height // cell, width // cell, orientations
    offsets = (
        (np.arange(shape[0])[:, None] * shape[1] + np.arange(shape[1])).repeat(cell, 0)
    ).repeat(cell, 1) * orientations
    histograms = np.empty((count, *shape))
    step = max(1, CHUNK // (height * width))
    for start in range(0, count, step):
        chunk = patches[start : start + step]
        vertical = np.zeros_like(chunk)
        horizontal = np.zeros_like(chunk)
        np.subtract(chunk[:, 2:], chunk[:, :-2], out=vertical[:, 1:-1])
        np.subtract(chunk[:, :, 2:], chunk[:, :, :-2], out=horizontal[:, :, 1:-1])
        vertical = vertical[:, : shape[0] * cell, : shape[1] * cell].astype(np.float64)
        horizontal = horizontal[:, : shape[0] * cell, : shape[1] * cell].astype(np.float64)
        index = np.arange(len(chunk))[:, None, None] * np.prod(shape) + offsets
        index += _direction(vertical, horizontal, orientations)
        magnitude = np.sqrt(vertical**2 + horizontal**2)
        histograms[start : start + step] = np.bincount(
            index.ravel(), magnitude.ravel(), minlength=len(chunk) * np.prod(shape)
        ).reshape(len(chunk), *shape)
    return histograms / cell**2


def _direction(vertical, horizontal, orientations):
    """Bin of each gradient's unsigned direction: how many bin borders it has passed.

    The cotangent is the same for a direction and its opposite and falls from border to border;
    comparing it costs less than an arctangent per pixel.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        cotangent = horizontal / vertical
    cotangent[vertical == 0] = np.inf  # along the rows: 0 degrees
    bins = np.zeros(vertical.shape, dtype=np.int8)
    for border in range(1, orientations):
        limit = 1 / np.tan(np.pi * border / orientations)
        if abs(limit - round(limit)) < 1e-12:  # 45, 90 and 135 degrees occur exactly
            limit = round(limit)
        bins += cotangent <= limit
    return bins


def blocks(histograms, cells_per_block=3):
    """Normalised overlapping blocks of cells.

    Histograms (N, Y, X, o) to (N, Y - b + 1, X - b + 1, b, b, o); each block is scaled to length
    1, clipped at 0.2 and scaled to length 1 again (L2-Hys). InputError if no block fits.
    """
    size = cells_per_block
    if min(histograms.shape[1:3]) < size:
        raise InputError(
            f"patches of {histograms.shape[1]}x{histograms.shape[2]} cells are too small for "
            f"blocks of {size}x{size}; raise evaluation.patch_size"
        )
    windows = np.lib.stride_tricks.sliding_window_view(histograms, (size, size), axis=(1, 2))
    found = np.moveaxis(windows, 3, -1).copy()
    _normalise(found)
    np.minimum(found, 0.2, out=found)
    _normalise(found)
    return found


def _normalise(found):
    """Scale blocks (..., b, b, o) to length 1, in place."""
    length = np.sqrt(np.einsum("...ijo,...ijo->...", found, found) + EPS**2)
    found /= length[..., None, None, None]


def hog(patches, orientations=9, pixels_per_cell=8, cells_per_block=3):
    """HOG descriptors of patches (N, H, W): (N, blocks_y, blocks_x, b, b, orientations)."""
    return blocks(cell_histograms(patches, orientations, pixels_per_cell), cells_per_block)


def blocks_inside(masks, pixels_per_cell=8, cells_per_block=3):
    """Which blocks have their centre in a region: masks (N, H, W) to (N, blocks_y, blocks_x).

    The centre of a block with an even number of pixels is the pixel just above it.
    """
    cell, size = pixels_per_cell, cells_per_block
    rows, columns = (
        np.arange(extent // cell - size + 1) * cell + cell * size // 2 for extent in masks.shape[1:]
    )
    return np.asarray(masks, dtype=bool)[:, rows][:, :, columns]


def hog_distance(first, second, inside=None):
    """L2 distance of paired descriptors (N, blocks_y, blocks_x, b, b, o), (N,) float64.

    With `inside` (N, blocks_y, blocks_x) only those blocks count, and patches without one are
    left out: the result is then shorter, possibly empty.
    """
    if first.shape != second.shape:
        raise InputError(f"descriptors differ in shape: {first.shape} and {second.shape}")
    squares = np.square(first - second).sum(axis=(3, 4, 5))
    if inside is None:
        return np.sqrt(squares.sum(axis=(1, 2)))
    return np.sqrt((squares * inside).sum(axis=(1, 2)))[inside.any(axis=(1, 2))]
