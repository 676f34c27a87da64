"""Axial slices of many brains on one page, in radiological convention."""

import nibabel as nib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from realdeal.data.volumes import load_volume

HEIGHT = 12.0  # mm above the anterior commissure's plane: the bodies of the ventricles


def cut(data, axis, index):
    """The slice of RAS+ `data` (X, Y, Z) across an axis as a picture, rows from the top.

    Both remaining axes run from high to low index: in axial and coronal slices the patient's
    right lies at the left, in sagittal ones the face.
    """
    return np.take(data, index, axis=axis)[::-1, ::-1].T


def brain_slice(axis, data, affine):
    """Show the axial slice at `HEIGHT` on the axes, -1 black, 1 white."""
    x, y, _ = nib.affines.apply_affine(affine, (np.array(data.shape) - 1) / 2)
    z = (np.linalg.inv(affine) @ [x, y, HEIGHT, 1])[2]
    image = cut(data, 2, int(np.clip(round(z), 0, data.shape[2] - 1)))
    axis.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="bicubic")
    axis.axis("off")


def slice_grid(lines, framed=(), size=1.7):
    """A canvas with a row for each (title, paths, texts); `framed` holds (row, column) pairs."""
    columns = max(len(paths) for _, paths, _ in lines)
    canvas, axes = plt.subplots(
        len(lines),
        columns,
        figsize=(size * columns + 1.0, size * 1.22 * len(lines)),
        squeeze=False,
        facecolor="black",
        gridspec_kw={"wspace": 0.02, "hspace": 0.08},
    )
    canvas.subplots_adjust(left=1.0 / (size * columns + 1.0), right=0.995, top=0.97, bottom=0.01)
    for row, (title, paths, texts) in enumerate(lines):
        for column, axis in enumerate(axes[row]):
            axis.axis("off")
            if column >= len(paths):
                continue
            volume = load_volume(paths[column])
            brain_slice(axis, volume.data, volume.affine)
            axis.set_title(texts[column], color="white", fontsize=6.5, pad=2)
            if (row, column) in framed:
                axis.add_patch(
                    Rectangle(
                        (0, 0), 1, 1, transform=axis.transAxes, fill=False, ec="#ffb000", lw=2.5
                    )
                )
        axes[row, 0].text(
            -0.06,
            0.5,
            title,
            transform=axes[row, 0].transAxes,
            color="white",
            fontsize=8,
            ha="right",
            va="center",
        )
    return canvas
