"""Pictures to judge the demo cohort by eye: its brains beside the template, and its cells."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from realdeal.data import demo, regions
from realdeal.data.volumes import load_labels, load_volume
from realdeal.files import atomic_path

# Planes that show what counts: ventricles, cerebellum, grey-white boundary, midline.
PLANES = (
    ("axial, ventricles", 2, 10.0),
    ("axial, cerebellum", 2, -28.0),
    ("coronal, cerebellum", 1, -56.0),
    ("sagittal, midline", 0, 2.0),
    ("sagittal, hippocampus", 0, 24.0),
)


def plot_realism(path, settings, shape, seed, stamp=None):
    """Draw the template on the cohort's grid, two subjects, and the noise-free second to `path`.

    The subjects are healthy and their scans T1w, as the template. Arguments as for
    `realdeal.data.demo.make_subject`; `stamp` says what made it ({name: text}), in the PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    subjects = [demo.make_subject(number, seed, settings, shape) for number in (1, 2)]
    affine = subjects[0].affine
    rows = [("template", _template(settings["voxel_size"], shape))]
    rows += [(_name(number, made), made.scan) for number, made in enumerate(subjects, 1)]
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
        figure.savefig(temporary, dpi=110, metadata=stamp)
    plt.close(figure)


def plot_cells(path, study, examples, stamp=None):
    """Draw an axial slice of every pathology (rows) in every modality (columns) to `path`.

    `examples` are [pathology, modality, subject] of a cohort that has been written. The slice is
    the one in which there is most of the lesions or, without any, of the lateral ventricles.
    Seen from above: the subject's left is on the left. `stamp` as for `plot_realism`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = list(dict.fromkeys(pathology for pathology, _, _ in examples))
    columns = list(dict.fromkeys(modality for _, modality, _ in examples))
    figure, grid = plt.subplots(
        len(rows),
        len(columns),
        figsize=(1.9 * len(columns) + 0.3, 2.3 * len(rows) + 0.3),
        facecolor="black",
        layout="constrained",
        squeeze=False,
    )
    for pathology, modality, subject in examples:
        axis = grid[rows.index(pathology), columns.index(modality)]
        scan = load_volume(study.cohort(modality, subject)).data
        labels = load_labels(study.cohort("labels", subject)).data
        index = _busiest_slice(study, subject, labels)
        crop = ndimage.find_objects((labels > 0).astype(np.int8))[0][:2]
        axis.imshow(
            scan[:, :, index][crop].T,
            origin="lower",
            cmap="gray",
            vmin=0,
            vmax=1.1,
            interpolation="bicubic",
        )
        axis.set(xticks=[], yticks=[])
    for axis, modality in zip(grid[0], columns, strict=True):
        axis.set_title(modality, color="white", fontsize=10)
    for axis, pathology in zip(grid[:, 0], rows, strict=True):
        axis.set_ylabel(pathology, color="white", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata=stamp)
    plt.close(figure)


def _busiest_slice(study, subject, labels):
    """Index along z where there is most to see."""
    shown = labels == regions.VENTRICLES
    path = study.cohort("lesions", subject)
    if path.exists():
        lesions = np.asarray(nib.load(path).dataobj)  # all 0 where the subject has none
        shown = lesions if lesions.any() else shown
    return int((shown > 0).sum((0, 1)).argmax())


def _name(number, subject):
    about = subject.covariates
    return f"subject {number}: {about['sex']}, {about['age']:.0f} y"


def _template(spacing, shape):
    """The template at the cohort's mean size and voxel size, with its partial volume."""
    axes = [axis / demo.SIZE for axis in demo.drawing_axes(spacing, shape)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    values = demo.template().sample("t1w", grid.reshape(3, -1).astype(np.float32))
    return demo.pool(values.reshape(grid.shape[1:]))
