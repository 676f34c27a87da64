"""From scans to volumes in [-1, 1], regions and training stores (paper, section 3.1)."""

import logging

import numpy as np
import pandas as pd

from realdeal.data import regions as region_codes
from realdeal.data.volumes import (
    fit_to_shape,
    load_labels,
    load_volume,
    rescale,
    save_labels,
    save_volume,
    store,
)
from realdeal.errors import InputError
from realdeal.files import read_json, write_table
from realdeal.progress import progress

COVARIATES = ("person", "age", "sex", "pathology", "modality")
COLUMNS = ("participant_id", "split", *COVARIATES, "ventricular_volume", "brain_volume")

log = logging.getLogger(__name__)


def preprocess(study, subjects, files, settings, coded, rescans=()):
    """Write volume, regions and training store of each subject.

    `files` maps a subject to {"image": path, "labels": path}; `settings` is the section
    preprocessing of the configuration: shape (voxels) and intensity, the two thresholds that
    become -1 and 1, the same for all scans or percentiles of each brain. Background becomes
    exactly -1. Labels that are `coded` are region codes, otherwise FreeSurfer's;
    of the subjects in `rescans` the second scan is written as well. InputError for unusable
    scans and for a cohort of unequal geometry.
    """
    first = None
    for subject in progress(subjects, description="preprocessing", unit="subject"):
        image_path, labels_path = files[subject]["image"], files[subject]["labels"]
        if labels_path is None:
            raise InputError(
                f"subject {subject} has no labels, which noise, texture and sharpness scores "
                "need; set data.folder.labels to FreeSurfer aparc+aseg files"
            )
        image, labels = load_volume(image_path), load_labels(labels_path)
        first = first or (image_path, image)
        _check_cohort(image_path, image, *first)
        _check_labels(labels_path, labels, image_path, image)

        regions = labels.data.astype(np.uint8) if coded else _regions(image, labels, labels_path)
        image = fit_to_shape(image.data, image.affine, settings["shape"], 0)
        regions = fit_to_shape(regions, labels.affine, settings["shape"], 0).data
        region_codes.check_regions(regions, labels_path)
        volume = _scale(image_path, image.data, regions, settings["intensity"])
        save_volume(study.volume("original", subject), volume, image.affine)
        save_labels(study.regions(subject), regions, image.affine)
        store(study.store("original", subject), volume)
        if subject in rescans:
            path = study.cohort("rescan", subject)
            rescan = fit_to_shape(*load_volume(path), settings["shape"], 0)
            volume = _scale(path, rescan.data, regions, settings["intensity"])
            save_volume(study.volume("rescan", subject), volume, rescan.affine)


def write_participants(study, subjects, train, test, unseen=()):
    """Write participants.tsv: the split, covariates (n/a where none) and measured volumes.

    `train`, `test` and `unseen` hold each of the `subjects` once. The regions must exist.
    InputError if voxel sizes differ between subjects.
    """
    split = {"train": train, "test": test, "unseen": unseen}
    parts = {subject: part for part, names in split.items() for subject in names}
    rows = []
    first = None
    for subject in subjects:
        path = study.regions(subject)
        regions = load_labels(path)
        first = first or (path, regions)
        _check_cohort(path, regions, *first)
        about = study.covariates(subject)
        covariates = read_json(about) if about.exists() else {}
        rows.append(
            {
                "participant_id": subject,
                "split": parts[subject],
                **{name: covariates.get(name) for name in COVARIATES},
                **region_codes.volumes(*regions),
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    if table["person"].isna().all():  # everybody was scanned once
        table = table.drop(columns="person")
    write_table(study.participants, table)


def _scale(path, data, regions, intensity):
    """Values in [-1, 1], background -1; InputError if the thresholds do not suit the scan."""
    brain = regions > 0
    low, high = thresholds = _thresholds(data[brain], intensity)
    volume = np.where(brain, rescale(data, low, high), np.float32(-1))
    clipped = np.mean(np.abs(volume[brain]) == 1)
    # The demo clips below 0.1 %; half of a brain means that the scan has another unit.
    if clipped > 0.5 or np.ptp(volume[brain]) < 0.1:
        raise InputError(
            f"{path}: brain intensities run from {data[brain].min():.4g} to "
            f"{data[brain].max():.4g}, which preprocessing.intensity {thresholds} "
            "does not resolve; set thresholds that suit all scans"
        )
    return volume


def _thresholds(brain, intensity):
    """The thresholds of a scan whose brain has the intensities `brain` (N,)."""
    if isinstance(intensity, dict):
        return [float(value) for value in np.percentile(brain, intensity["percentiles"])]
    return list(intensity)


def _regions(image, labels, labels_path):
    """Region codes of FreeSurfer labels, with the whole brain of a skull-stripped scan.

    FreeSurfer leaves the fluid in the sulci unlabelled. Where the scan is stripped, what it
    keeps is the brain, and its unlabelled part is OTHER; a scan with its skull is cut to the
    labels.
    """
    regions = region_codes.from_freesurfer(labels.data, labels_path)
    kept = image.data > 0
    if np.count_nonzero(kept) > 2 * np.count_nonzero(regions):  # skull and air noise
        log.warning("%s: the scan is not skull-stripped; cutting it to its labels", labels_path)
        return regions
    regions[kept & (regions == region_codes.BACKGROUND)] = region_codes.OTHER
    regions[~kept] = region_codes.BACKGROUND
    return regions


def _check_cohort(path, volume, first_path, first):
    if volume.data.shape != first.data.shape:
        raise InputError(
            f"{path}: has shape {volume.data.shape}, {first_path} {first.data.shape}; "
            "resample the cohort to one grid"
        )
    if not np.allclose(volume.spacing, first.spacing, rtol=1e-3):
        ours, theirs = (np.array2string(v.spacing, precision=3) for v in (volume, first))
        raise InputError(
            f"{path}: has voxels of {ours} mm, {first_path} of {theirs} mm; "
            "resample the cohort to one voxel size"
        )


def _check_labels(path, labels, image_path, image):
    same = labels.data.shape == image.data.shape and np.allclose(
        labels.affine, image.affine, atol=1e-2 * image.spacing.min()
    )
    if not same:
        raise InputError(
            f"{path}: does not lie on the grid of {image_path}; resample the labels to the scan"
        )
