"""A picture to judge the demo cohort by eye: its brains beside the template."""

import numpy as np

from realdeal.data import demo
from realdeal.files import atomic_path

# Planes that show what counts: ventricles, cerebellum, grey-white boundary, midline.
PLANES = (
    ("axial, ventricles", 2, 10.0),
    ("axial, cerebellum", 2, -28.0),
    ("coronal, cerebellum", 1, -56.0),
    ("sagittal, midline", 0, 2.0),
    ("sagittal, hippocampus", 0, 24.0),
)


def plot_realism(path, settings, shape, seed):
    """Draw the template on the cohort's grid, two subjects, and the noise-free second to `path`.

    Arguments as for `realdeal.data.demo.make_subject`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    subjects = [demo.make_subject(number, seed, settings, shape) for number in (1, 2)]
    affine = subjects[0].affine
    rows = [("template", _template(settings["voxel_size"], shape))]
    rows += [(_name(number, made), made.t1w) for number, made in enumerate(subjects, 1)]
    rows.append(("subject 2, noise-free", subjects[1].truth))
    figure, grid = plt.subplots(
        len(rows), len(PLANES), figsize=(13, 11), facecolor="black", layout="constrained"
    )
    for axis, (title, _, _) in zip(grid[0], PLANES, strict=True):
        axis.set_title(title, color="white", fontsize=9)
    for axes, (name, volume) in zip(grid, rows, strict=True):
        for axis, (_, normal, position) in zip(axes, PLANES, strict=True):
            index = round((position - affine[normal, 3]) / affine[normal, normal])
            index = min(max(index, 0), shape[normal] - 1)
            plane = np.take(volume, index, axis=normal).T
            axis.imshow(plane, origin="lower", cmap="gray", vmin=0, vmax=1.05)
            axis.set(xticks=[], yticks=[])
        axes[0].set_ylabel(name, color="white", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def _name(number, subject):
    about = subject.covariates
    return f"subject {number}: {about['sex']}, {about['age']:.0f} y"


def _template(spacing, shape):
    """The template at the cohort's mean size and voxel size, with its partial volume."""
    axes = [axis / demo.SIZE for axis in demo.drawing_axes(spacing, shape)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    values = demo.template().sample("t1w", grid.reshape(3, -1).astype(np.float32))
    return demo.pool(values.reshape(grid.shape[1:]))
