"""Scans of a BIDS dataset, brought to one grid in the space of the template, with their regions."""

import logging
import tempfile

import numpy as np
from scipy import ndimage

from realdeal.data import regions
from realdeal.data.alignment import align, rim
from realdeal.data.atlas import MAPS, atlas, segment
from realdeal.data.bids import person_and_suffix
from realdeal.data.registration import make_engine
from realdeal.data.volumes import Volume, load_labels, load_volume, save_intensities, save_labels
from realdeal.errors import InputError
from realdeal.progress import progress
from realdeal.refinement.intensity import check_litres

AIR = 0.05  # least share of exact zeros in a skull-stripped scan

CORE = 15.0  # mm below the surface of the template's brain: surely brain
PEEL = 4.0  # mm, thicker than the bridges between brain and scalp
CLOSE = 8.0  # mm, wider than sulci

log = logging.getLogger(__name__)


def prepare(study, subjects, files, settings, shape):
    """Write scan and region codes of each subject below study.root/cohort, as the demo does.

    `files` maps a subject to {"image", "labels", "masks"}, paths or None; `settings` is section
    data.bids; `shape` is preprocessing.shape. Intensities keep their unit. InputError for scans
    that cannot be used.
    """
    for subject in progress(subjects, description="preparing", unit="subject"):
        with tempfile.TemporaryDirectory() as folder:
            engine = make_engine(settings["engine"], folder)
            try:
                image, codes = prepare_scan(engine, files[subject], settings, tuple(shape))
            except InputError as error:
                # A failing registration does not know whose it is.
                raise InputError(f"{subject}: {error}") from error
        _, suffix = person_and_suffix(settings, subject)
        save_intensities(study.cohort(suffix, subject), image.data, image.affine)
        save_labels(study.cohort("labels", subject), codes, image.affine)


def prepare_scan(engine, files, settings, shape):
    """One subject: its brain as `Volume` on the study's grid, 0 elsewhere, and its region codes.

    Rigid registration to the template, the mask of the brain, N4 inside it, regions; the voxels
    of the scan are interpolated once.
    """
    path, spacing = files["image"], float(settings["voxel_size"])
    scan = shown = load_volume(path)
    mask = _given_mask(scan, files, settings)
    if mask is not None:
        shown = scan._replace(data=np.where(mask.data, scan.data, 0))
    target = atlas(spacing, shape)
    reference = target.volume("t1w")
    rigid = align(engine, shown, spacing, shape, with_skull=mask is None)
    # A cubic spline keeps more of the noise than linear interpolation; below 0 it overshoots.
    # It takes the scan with all around the brain, lest its edge be mixed with the mask's zeros.
    image = engine.resample(scan, reference, rigid, "bSpline")
    image = image._replace(data=np.clip(image.data, 0, None))

    if mask is None:
        brain = guess_brain(image, target)
    else:
        mask = mask._replace(data=mask.data.astype(np.float32))
        brain = engine.resample(mask, reference, rigid, "linear").data > 0.5
    maps = {}
    if mask is None or files["labels"] is None:
        stripped = image._replace(data=np.where(brain, image.data, 0))
        near = rim(target.brain, spacing)
        linear = engine.align("affine", reference, stripped, near, "affine")
        start = f"{linear}0GenericAffine.mat"
        warp = engine.align("deformable", reference, stripped, near, "template", start)
        for name in MAPS:
            moved = engine.resample(target.volume(name), image, warp, "linear", inverse=True)
            maps[name] = moved.data
    if mask is None:
        brain = maps["brain"] > 0.5
    _check_brain(path, brain, reference.spacing)
    image = image._replace(data=np.where(brain, image.data, 0))
    if settings["bias_correction"]:
        corrected = engine.correct_bias(image, brain)
        image = image._replace(data=np.where(brain, corrected.data, 0))
    if files["labels"] is None:
        return image, segment(image.data, brain, maps)
    return image, _given_regions(engine, files["labels"], reference, rigid, brain)


def guess_brain(image, target):
    """A first mask of the brain (X, Y, Z) of a head that is rigidly aligned to the atlas `target`.

    What is as bright as brain, near where the template has its brain, and holds together when
    its surface is taken off: bone and fluid part the brain from the scalp.
    """
    spacing = image.spacing
    inside = ndimage.distance_transform_edt(target.brain > 0.5, sampling=spacing)
    tissue = image.data > 0.5 * np.median(image.data[inside > CORE])
    tissue &= rim(target.brain, spacing)
    core = ndimage.distance_transform_edt(tissue, sampling=spacing) > PEEL
    parts, count = ndimage.label(core)
    if count:
        sizes = np.bincount(parts[inside > CORE], minlength=count + 1)[1:]
        core = parts == 1 + sizes.argmax()
    grown = ndimage.distance_transform_edt(~core, sampling=spacing) <= PEEL + CLOSE
    closed = ndimage.distance_transform_edt(grown, sampling=spacing) > CLOSE
    return ndimage.binary_fill_holes(closed)


def _given_mask(scan, files, settings):
    """The brain (`Volume` of bool on the scan's grid); None if the template has to tell."""
    if settings["skull_strip"] == "template":
        return None
    if settings["skull_strip"] == "none":
        inside = scan.data > 0
        if (scan.data == 0).mean() < AIR:
            raise InputError(
                f"{files['image']}: hardly any voxel is 0, so the skull is not stripped; set "
                "data.bids.skull_strip to template or masks"
            )
    else:
        mask = load_volume(files["masks"])
        same = mask.data.shape == scan.data.shape and np.allclose(
            mask.affine, scan.affine, atol=0.1 * scan.spacing.min()
        )
        if not same:
            mask = _regrid(mask, scan)
        inside = mask.data > 0
        if not inside.any():
            raise InputError(
                f"{files['masks']}: none of it lies on {files['image']}; give masks of this scan"
            )
    return Volume(ndimage.binary_fill_holes(inside), scan.affine)


def _regrid(mask, scan):
    """A mask of other voxels on the grid of its scan, by the nearest voxel."""
    to_mask = np.linalg.inv(mask.affine) @ scan.affine
    data = ndimage.affine_transform(
        mask.data, to_mask[:3, :3], to_mask[:3, 3], scan.data.shape, order=0
    )
    return Volume(data, scan.affine)


def _check_brain(path, brain, spacing):
    if not brain.any():
        raise InputError(
            f"{path}: no brain is left after registration; look whether the scan is one of a head"
        )
    if any(np.take(brain, [0, -1], axis).any() for axis in range(3)):
        log.warning(
            "%s: the field of view cuts the brain off; enlarge preprocessing.shape times "
            "data.bids.voxel_size (%g mm)",
            path,
            spacing[0],
        )
    check_litres(path, brain, spacing)  # a head with a black background passes for a brain


def _given_regions(engine, path, reference, rigid, brain):
    """Region codes from FreeSurfer's or SynthSeg's labels of the scan, moved along with it."""
    labels = load_labels(path)
    codes = regions.from_freesurfer(labels.data, path)
    moved = engine.resample(Volume(codes, labels.affine), reference, rigid, "genericLabel")
    codes = np.round(moved.data).astype(np.uint8)
    if np.count_nonzero(codes[brain]) < 0.5 * np.count_nonzero(brain):
        raise InputError(
            f"{path}: labels less than half of the brain; are they in the space of the scan?"
        )
    # Fluid that is not labelled, but inside the mask, is part of the brain.
    codes[brain & (codes == regions.BACKGROUND)] = regions.OTHER
    codes[~brain] = regions.BACKGROUND
    return codes
