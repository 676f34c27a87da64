"""Figures 3-10 of the paper, and the pictures of the report.

Slices are shown in radiological convention: the patient's right side at the left of axial and
coronal slices, the face to the left of sagittal ones. Grey levels are fixed: -1 black, 1 white.
"""

from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from scipy import ndimage

from realdeal.data.volumes import load_volume
from realdeal.errors import InputError
from realdeal.files import atomic_path
from realdeal.paper.items import (
    FIGURES,
    NETWORKS,
    PAIRED,
    SCORE_FILES,
    SYNTHESIS,
    TABLES,
    figure_subjects,
    heading,
)
from realdeal.paper.slices import cut
from realdeal.paper.tables import grid, published_closure, read_table

DPI = 200
INK, MUTED, FRAME = "#f2f2f2", "#9a9a9a", "#ffb000"
TITLES = {
    "original": "Original",
    "reconstructed": "Reconstructed",
    "reconstructed-refined": "RealDeal",
    "synthetic": "LDM sample",
    "synthetic-refined": "RealDeal",
}
BRAIN = -0.9  # above the background of -1, which decoders meet only roughly
MARGIN = 8.0  # mm of background kept around the brain
ZOOM = 60.0  # mm, side of the enlarged square
# Black where nothing differs, so that the brain's surroundings stay black.
DIFFERENCES = LinearSegmentedColormap.from_list(
    "differences", ["#bfe3ff", "#2f8fe0", "#000000", "#e0661f", "#ffdfb0"]
)
DARK = {
    "figure.facecolor": "black",
    "axes.facecolor": "black",
    "savefig.facecolor": "black",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "font.family": "sans-serif",
    "font.size": 9,
}


class View(NamedTuple):
    """How a plane is cut and laid on paper.

    axis: the axis cut through; across, down: the axes that run along columns and rows of the
    picture, both from high to low index; letters: left, right, top, bottom; position: where to
    cut, as a fraction of the brain's extent.
    """

    axis: int
    across: int
    down: int
    letters: str
    position: float


VIEWS = {
    "axial": View(2, 0, 1, "RLAP", 0.56),
    "coronal": View(1, 0, 2, "RLSI", 0.46),
    "sagittal": View(0, 1, 2, "APSI", 0.44),  # off the midline: cortex, thalamus, cerebellum
}


class Slicer:
    """Cuts all variants of a subject alike: same slices, same field of view."""

    def __init__(self, reference, affine):
        """reference: the volume (X, Y, Z) whose brain decides; affine: of all the volumes."""
        self.spacing = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0))
        brain = reference > BRAIN
        self.low, self.high = np.zeros(3), np.array(reference.shape) - 1.0
        for axis in range(3):
            area = brain.sum(axis=tuple({0, 1, 2} - {axis}))
            inside = np.flatnonzero(area > 0.02 * area.max())
            if inside.size:
                self.low[axis], self.high[axis] = inside[0], inside[-1]
        self.reference = reference

    def size(self, view):
        """Width and height of a slice in mm."""
        extent = (self.high - self.low + 1) * self.spacing + 2 * MARGIN
        return extent[VIEWS[view].across], extent[VIEWS[view].down]

    def cut(self, volume, view):
        """The whole slice, rows from the top, and its extent in mm for `imshow`."""
        plane = VIEWS[view]
        low, high = self.low[plane.axis], self.high[plane.axis]
        index = int(round(low + plane.position * (high - low)))
        image = cut(volume, plane.axis, index)
        rows, columns = image.shape
        width = columns * self.spacing[plane.across]
        height = rows * self.spacing[plane.down]
        return image, (0, width, height, 0)

    def limits(self, view):
        """Left, right, bottom, top of the field of view in mm of `cut`'s extent."""
        plane, shape = VIEWS[view], self.reference.shape
        edges = []
        for axis in (plane.across, plane.down):
            edges.append((shape[axis] - 1 - self.high[axis]) * self.spacing[axis] - MARGIN)
            edges.append((shape[axis] - self.low[axis]) * self.spacing[axis] + MARGIN)
        left, right, top, bottom = edges
        return left, right, bottom, top

    def detail(self, view):
        """Left, top and side in mm of the square of the slice that is richest in edges."""
        image, (_, width, height, _) = self.cut(self.reference, view)
        step = np.array([height / image.shape[0], width / image.shape[1]])
        side = np.minimum(np.round(ZOOM / step).astype(int), image.shape)
        brain = ndimage.binary_fill_holes(image > BRAIN)
        rim = max(1, round(6.0 / step.max()))  # the brain's edge to the background is no detail
        interior = ndimage.binary_erosion(brain, iterations=rim)
        edges = ndimage.gaussian_gradient_magnitude(image, 1.0) * interior
        inside = ndimage.uniform_filter(brain.astype(float), side, mode="constant")
        score = ndimage.uniform_filter(edges, side, mode="constant")
        score[inside < min(0.97, inside.max())] = -1
        centre = np.array(np.unravel_index(score.argmax(), score.shape))
        top, left = (centre - side // 2) * step
        return left, top, ZOOM


def figure(number, study, subjects, synthetic, stamp=None):
    """Draw figure 3-10 of the paper to `study.figure(number)`.

    subjects, synthetic: the names of the evaluated test subjects and of the synthetic ones, of
    which `figure_subjects` picks. 3: sagittal slice with a detail, differences and an intensity
    profile; 4: the same of a synthetic brain; 5-7: three planes of a test subject; 8-10: three
    planes of two synthetic brains. stamp: what made it ({name: text}), kept in the PNG file.
    """
    layout = FIGURES[number]
    chosen = figure_subjects(number, subjects, synthetic)
    volumes, affine = _load(study, layout.variants, chosen)
    with plt.rc_context(DARK):
        if number in (3, 4):
            canvas = _one_slice(volumes[0], affine, layout.variants)
        elif layout.variants == PAIRED:
            canvas = _three_planes(volumes[0], affine)
        else:
            canvas = _samples(volumes, affine, chosen)
        _save(canvas, study.figure(number), stamp)


def banner(study, subject, synthetic, path, stamp=None):
    """Wide picture of the whole method: a test subject and a synthetic brain, coarse and refined.

    Five columns (original, reconstructed, refined; LDM sample, refined), sagittal over axial.
    """
    paired, affine = _load(study, PAIRED, [subject])
    sampled, _ = _load(study, SYNTHESIS, [synthetic])
    with plt.rc_context(DARK):
        slicers = [Slicer(paired[0]["original"], affine), Slicer(sampled[0]["synthetic"], affine)]
        columns = [(paired[0], variant, slicers[0]) for variant in PAIRED]
        columns += [(sampled[0], variant, slicers[1]) for variant in SYNTHESIS]
        views = ("sagittal", "axial")
        sizes = np.array([[slicer.size(view) for view in views] for slicer in slicers]).max(axis=0)
        width, heights = sizes[:, 0].max(), list(sizes[:, 1])
        spacer = 0.12 * width  # sets the synthetic brain apart
        canvas, cells = _canvas([width] * 3 + [spacer] + [width] * 2, heights, 76.0, top=0.3)
        for column, (volumes, variant, slicer) in zip((0, 1, 2, 4, 5), columns, strict=True):
            for row, view in enumerate(views):
                axes = canvas.add_subplot(cells[row, column])
                _show(axes, slicer, volumes[variant], view, letters=column in (0, 4))
            _head(canvas, cells[0, column], TITLES[variant])
        _save(canvas, path, stamp)


def training_curves(study, path, names=NETWORKS):
    """Loss against step of the three networks; reads `study.history(name)`, skips absent ones."""
    histories = {
        name: pd.read_csv(study.history(name)) for name in names if study.history(name).exists()
    }
    if not histories:
        raise InputError(f"{study.history(names[0])}: missing; train the networks first")
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        canvas = Canvas(figsize=(3.5 * len(histories), 2.7), layout="constrained", dpi=DPI)
        panels = np.atleast_1d(canvas.subplots(1, len(histories)))
        for axes, (name, history) in zip(panels, histories.items(), strict=True):
            loss = history.dropna(subset="loss")
            if len(loss):
                axes.plot(loss["step"], loss["loss"], color="#08519c", lw=1.4, label="training")
            held_out = history.dropna(subset="validation_loss")
            if len(held_out):
                x, y = held_out["step"], held_out["validation_loss"]
                axes.plot(x, y, "o-", color="#d94801", lw=1.4, ms=3, label="held out")
            if len(history):
                minutes = history["seconds"].max() / 60
                axes.set_title(f"{name}  ({minutes:.1f} min)", fontsize=10)
                axes.set_yscale("log")
                axes.legend(frameon=False)
            axes.set_xlabel("step")
            axes.grid(alpha=0.25, which="both", lw=0.5)
        panels[0].set_ylabel("loss")
        _save(canvas, path)


def metric_overview(study, path, limits=(-0.25, 1.1)):
    """Gap closure of every cell of tables 1-6 with its interval, beside the paper's.

    Values outside `limits` are drawn at the edge as arrows.
    """
    entries = []
    for number in TABLES:
        columns, _, cells = grid(read_table(study.table(number)))
        for column in columns:
            if cells["RealDeal", column]["closure"] is not None:
                entries.append(
                    (column, cells["RealDeal", column], published_closure(cells, column))
                )
    order = list(SCORE_FILES)
    entries.sort(key=lambda entry: (order.index(entry[0].metric), entry[0].k or 0))
    groups = {}
    for entry in entries:
        groups.setdefault(heading(entry[0]), []).append(entry)
    height = len(entries) + 0.9 * len(groups)
    with plt.rc_context({"font.size": 9}):
        canvas = Canvas(figsize=(7.4, 0.155 * height + 0.9), layout="constrained", dpi=DPI)
        axes = canvas.subplots()
        y, ticks, labels = 0.0, [], []
        for group, members in groups.items():
            shade = "#f0f3f6" if len(ticks) % 2 else "white"
            axes.axhspan(y - 0.7, y + len(members) - 0.3, color=shade)
            ticks.append(y + (len(members) - 1) / 2)
            labels.append(group)
            for column, cell, paper in members:
                low, high = cell["closure_low"], cell["closure_high"]
                if low is not None:
                    axes.plot(np.clip([low, high], *limits), [y, y], color="#08519c", lw=1.2)
                x = np.clip(cell["closure"], *limits)
                marker = "o" if x == cell["closure"] else "<" if x == limits[0] else ">"
                axes.plot(x, y, marker, color="#08519c", ms=4.5)
                if paper is not None:
                    axes.plot(paper, y, "D", mfc="white", mec="#d94801", ms=4, mew=1.1)
                if column.dim is not None:
                    place = axes.get_yaxis_transform()
                    label = f" dim{column.dim}"
                    axes.text(1, y, label, transform=place, va="center", fontsize=6, color="#666")
                y += 1
            y += 0.9
        axes.plot([], [], "o-", color="#08519c", ms=4.5, label="this study, 95 % interval")
        axes.plot([], [], "D", mfc="white", mec="#d94801", ms=4, label="paper")
        axes.axvline(0, color="#888", lw=0.8)
        axes.axvline(1, color="#888", lw=0.8, ls=":")
        axes.set_yticks(ticks, labels)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(y - 0.6, -1)
        axes.set_xlim(*limits)
        axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
        axes.grid(axis="x", alpha=0.3, lw=0.5)
        axes.set_xlabel("gap closed by the refinement")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
        for side in ("left", "top", "right"):
            axes.spines[side].set_visible(False)
        _save(canvas, path)


def _load(study, variants, subjects):
    """Volumes as a list of dicts by variant, all of one grid, and the affine of the first."""
    loaded, first = [], None
    for subject in subjects:
        loaded.append({})
        for variant in variants:
            volume = load_volume(study.volume(variant, subject))
            first = first or volume
            if volume.data.shape != first.data.shape:
                raise InputError(
                    f"{study.volume(variant, subject)}: has the shape {volume.data.shape}, others "
                    f"of its figure {first.data.shape}; make it again"
                )
            loaded[-1][variant] = volume.data
    return loaded, first.affine


def _canvas(widths, heights, scale, gap=2.0, top=0.3, left=0.0, right=0.0, bottom=0.0):
    """A figure whose cells have the given sizes in mm of brain, `scale` mm an inch.

    gap: between cells in mm of brain; top, left, right, bottom: margins in inches.
    """
    inner = np.array([sum(widths), sum(heights)]) + gap * np.array(
        [len(widths) - 1, len(heights) - 1]
    )
    size = inner / scale + [left + right, top + bottom]
    canvas = Canvas(figsize=size, dpi=DPI)
    cells = canvas.add_gridspec(
        nrows=len(heights),
        ncols=len(widths),
        width_ratios=widths,
        height_ratios=heights,
        left=left / size[0],
        right=1 - right / size[0],
        bottom=bottom / size[1],
        top=1 - top / size[1],
        wspace=gap / np.mean(widths),
        hspace=gap / np.mean(heights),
    )
    return canvas, cells


def _show(axes, slicer, volume, view, letters=True, difference=None):
    """Show one slice; with `difference`, in a diverging map from -difference to difference."""
    image, extent = slicer.cut(volume, view)
    left, right, bottom, top = slicer.limits(view)
    # Few voxels to the inch are interpolated smoothly; Lanczos keeps the noise's texture.
    coarse = slicer.spacing.max() > 1.5
    if difference is None:
        style = {"cmap": "gray", "vmin": -1, "vmax": 1}
    else:
        style = {"cmap": DIFFERENCES, "vmin": -difference, "vmax": difference}
    shown = axes.imshow(
        image, extent=extent, interpolation="lanczos" if coarse else "auto", **style
    )
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()
    if letters:
        places = ((0, 0.5), (1, 0.5), (0.5, 1), (0.5, 0))
        sides = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
        for letter, (x, y), (ha, va) in zip(VIEWS[view].letters, places, sides, strict=True):
            style = {"ha": ha, "va": va, "color": MUTED, "fontsize": 7}
            axes.text(x, y, letter, transform=axes.transAxes, **style)
    return shown


def _zoom(axes, slicer, volume, view, square, difference=None):
    """Show an enlarged square of a slice in a frame."""
    shown = _show(axes, slicer, volume, view, letters=False, difference=difference)
    left, top, side = square
    axes.set(xlim=(left, left + side), ylim=(top + side, top))
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(edgecolor=FRAME, linewidth=1.4)
    return shown


def _head(canvas, cell, text):
    """Column title above the cell, on one line whatever the shapes of the slices below."""
    place = cell.get_position(canvas)
    y = place.y1 + 0.08 / canvas.get_size_inches()[1]
    canvas.text((place.x0 + place.x1) / 2, y, text, ha="center", va="bottom", fontsize=11)


def _frame(axes, square):
    left, top, side = square
    axes.add_patch(Rectangle((left, top), side, side, fill=False, ec=FRAME, lw=1.2))


def _colorbar(canvas, left, shown):
    """A horizontal colour bar at the bottom, a third of the figure wide."""
    height = canvas.get_size_inches()[1]
    axes = canvas.add_axes((left, 0.36 / height, 0.3, 0.09 / height))
    bar = canvas.colorbar(shown, cax=axes, orientation="horizontal")
    bar.set_label("difference (grey levels from −1 to 1)", fontsize=8)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_visible(False)


def _scale(*differences):
    """A common limit for difference panels: the 99.5th percentile, rounded up to 0.05."""
    inside = np.concatenate([d[np.abs(d) > 1e-3].ravel() for d in differences])
    largest = np.percentile(np.abs(inside), 99.5) if inside.size else 0.05
    return max(0.05, np.ceil(largest / 0.05) * 0.05)


def _one_slice(volumes, affine, variants):
    """Sagittal slices with an enlarged detail, and what differs.

    Below the details of three variants: an intensity profile and the differences to the original.
    Beside the details of two: what the refinement added.
    """
    view = "sagittal"
    reference = variants[0]
    slicer = Slicer(volumes[reference], affine)
    width, height = slicer.size(view)
    square = slicer.detail(view)
    differences = {v: volumes[v] - volumes[reference] for v in variants[1:]}
    limit = _scale(*(slicer.cut(d, view)[0] for d in differences.values()))
    heights = [height, width, height][: len(variants)]
    canvas, cells = _canvas(
        [width] * 3, heights, 62.0, gap=4.0, top=0.32, bottom=0.62, left=0.03, right=0.03
    )
    for column, variant in enumerate(variants):
        axes = canvas.add_subplot(cells[0, column])
        _show(axes, slicer, volumes[variant], view)
        _frame(axes, square)
        _head(canvas, cells[0, column], TITLES[variant])
        axes = canvas.add_subplot(cells[1, column])
        _zoom(axes, slicer, volumes[variant], view, square)
        if len(variants) == 3:
            axes.axhline(square[1] + square[2] / 2, color=FRAME, lw=0.8, ls=(0, (2, 6)))
    if len(variants) == 3:
        _profile(canvas, cells[2, 0], slicer, volumes, variants, view, square)
        brain = volumes[reference] > BRAIN
        for column, variant in enumerate(variants[1:], start=1):
            axes = canvas.add_subplot(cells[2, column])
            shown = _show(axes, slicer, differences[variant], view, False, limit)
            error = np.sqrt(np.mean(differences[variant][brain] ** 2))
            label = f"{TITLES[variant]} − original   (RMS {error:.3f})"
            axes.text(0.5, 0, label, transform=axes.transAxes, ha="center", va="top", fontsize=8.5)
    else:
        axes = canvas.add_subplot(cells[0, 2])
        added = differences[variants[1]]
        shown = _show(axes, slicer, added, view, False, limit)
        _frame(axes, square)
        _head(canvas, cells[0, 2], "Added by the refinement")
        _zoom(canvas.add_subplot(cells[1, 2]), slicer, added, view, square, limit)
    _colorbar(canvas, 0.5 if len(variants) == 3 else 0.69, shown)
    return canvas


def _profile(canvas, cell, slicer, volumes, variants, view, square):
    """Intensities along the middle row of the enlarged square."""
    left, top, side = square
    place = cell.get_position(canvas)
    width, height = place.width, place.height
    axes = canvas.add_axes(
        (place.x0 + 0.2 * width, place.y0 + 0.18 * height, 0.74 * width, 0.68 * height)
    )
    for variant, color in zip(variants, ("#ffffff", "#56b4e9", FRAME), strict=True):
        image, (_, width, height, _) = slicer.cut(volumes[variant], view)
        step = width / image.shape[1]
        row = int((top + side / 2) / (height / image.shape[0]))
        columns = np.arange(
            max(0, int(left / step)), min(image.shape[1], int((left + side) / step))
        )
        x = (columns + 0.5) * step - left
        axes.plot(x, image[row, columns], color=color, lw=1.3, label=TITLES[variant])
    axes.set_xlabel("mm along the dotted line", fontsize=8)
    axes.set_ylabel("grey level", fontsize=8, labelpad=1)
    axes.tick_params(labelsize=7, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, frameon=False, fontsize=7)


def _three_planes(volumes, affine):
    """Rows axial, coronal, sagittal; columns original, reconstructed, refined, two differences."""
    slicer = Slicer(volumes["original"], affine)
    sizes = {view: slicer.size(view) for view in VIEWS}
    differences = {v: volumes[v] - volumes["original"] for v in PAIRED[1:]}
    limit = _scale(*(slicer.cut(d, "axial")[0] for d in differences.values()))
    width = max(size[0] for size in sizes.values())
    heights = [size[1] for size in sizes.values()]
    canvas, cells = _canvas([width] * 5, heights, 88.0, gap=6.0, top=0.32, bottom=0.5)
    for row, view in enumerate(VIEWS):
        for column, variant in enumerate(PAIRED):
            _show(canvas.add_subplot(cells[row, column]), slicer, volumes[variant], view)
        for column, variant in enumerate(PAIRED[1:], start=3):
            axes = canvas.add_subplot(cells[row, column])
            shown = _show(axes, slicer, differences[variant], view, False, limit)
    titles = [TITLES[variant] for variant in PAIRED]
    titles += [f"{TITLES[variant]} − original" for variant in PAIRED[1:]]
    for column, title in enumerate(titles):
        _head(canvas, cells[0, column], title)
    _colorbar(canvas, 0.68, shown)
    return canvas


def _samples(samples, affine, names):
    """Two rows a sample, LDM and refined; columns axial, coronal, sagittal and a detail."""
    slicers = [Slicer(volumes[SYNTHESIS[0]], affine) for volumes in samples]
    sizes = {view: np.max([slicer.size(view) for slicer in slicers], axis=0) for view in VIEWS}
    height = max(size[1] for size in sizes.values())
    widths = [*(size[0] for size in sizes.values()), height]
    heights = [height] * 2 * len(samples)
    canvas, cells = _canvas(widths, heights, 88.0, gap=5.0, top=0.32, left=0.42, right=0.04)
    for column, title in enumerate([*(view.capitalize() for view in VIEWS), "Detail"]):
        _head(canvas, cells[0, column], title)
    rows = [(i, variant) for i in range(len(samples)) for variant in SYNTHESIS]
    for row, (i, variant) in enumerate(rows):
        volume, slicer = samples[i][variant], slicers[i]
        square = slicer.detail("axial")
        for column, view in enumerate(VIEWS):
            axes = canvas.add_subplot(cells[row, column])
            _show(axes, slicer, volume, view)
            if view == "axial":
                _frame(axes, square)
        _zoom(canvas.add_subplot(cells[row, len(VIEWS)]), slicer, volume, "axial", square)
        place = cells[row, 0].get_position(canvas)
        x, y = 0.22 / canvas.get_size_inches()[0], (place.y0 + place.y1) / 2
        label = f"{names[i]}\n{TITLES[variant]}"
        canvas.text(x, y, label, rotation=90, ha="center", va="center", fontsize=9.5)
    return canvas


def _save(canvas, path, stamp=None):
    """Write a figure as PNG, whole or not at all, with `stamp` as its text."""
    with atomic_path(path) as temporary:
        canvas.savefig(temporary, dpi=DPI, metadata={"Software": None, **(stamp or {})})
