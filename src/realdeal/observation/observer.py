"""The observer: fitted to real training scans, reads covariates from any volume."""

from functools import cached_property

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import ndimage

from realdeal.data.participants import read_covariates
from realdeal.data.volumes import load_labels, load_volume
from realdeal.errors import InputError
from realdeal.files import atomic_path, read_json, write_json
from realdeal.observation.features import Norm, cells, deviations, fine, masks
from realdeal.observation.segmentation import COUNTED, DARK, Segmenter
from realdeal.progress import progress

TREES = 500
SMOOTHED = (0.0, 2.0)  # mm: fitted to scans as they are and smoothed, as samples may be
KIND, DISEASE = "modality", "pathology"  # what is normal hangs on the former


class Observer:
    """Reads `covariates` (the config's list) from volumes on the grid of the training scans.

    Ventricular and brain volume are counted in a segmentation. Pathology is told by extremely
    randomised trees from the modality and deviations from its norm, which are the scans of the
    first level of pathology; everything else by linear models, ridge or logistic regression, from
    a coarse grid of cells and the two volumes.

    `arrays` hold what was seen of the training scans, not the models, which are fitted again in
    seconds: so no file holds code. Rows are training scans, as they are and smoothed: `cells`,
    `deviations`, `known` (covariates, levels as numbers); by modality,
    `norm.<level>.{sums,squares}` and `.number`.
    """

    def __init__(self, arrays, covariates):
        self.arrays, self.covariates = arrays, covariates
        self.segmenter = Segmenter(*(arrays[key] for key in ("atlas", "likelihood", "calibration")))
        self.where = masks(self.segmenter.atlas)

    @classmethod
    def load(cls, path):
        """InputError if `path` cannot be read."""
        try:
            return cls(load_file(path), read_json(path.with_suffix(".json"))["covariates"])
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(f"{path}: cannot be read ({error}); fit it again") from error

    def _disease(self, deviations, kinds):
        """What the trees are shown of N volumes: deviations (N, F), modality (N,) as numbers."""
        return np.hstack([deviations, np.eye(len(self._levels(KIND)))[kinds]])

    def _column(self, name):
        """The training scans' values of a covariate; levels as their numbers."""
        place = [covariate["name"] for covariate in self.covariates].index(name)
        return self.arrays["known"][:, place]

    def _levels(self, name):
        """The levels of a category, or one that stands for all where it is none of ours."""
        for covariate in self.covariates:
            if covariate["name"] == name:
                return [str(level) for level in covariate["levels"]]
        return ["any"]

    def _norm(self, level):
        sums, squares, number = (
            self.arrays[f"norm.{level}.{part}"] for part in ("sums", "squares", "number")
        )
        return Norm(sums, squares, int(number[0]))

    @cached_property
    def models(self):
        """{covariate: fitted model}."""
        from sklearn.ensemble import ExtraTreesClassifier
        from sklearn.linear_model import LogisticRegression, RidgeCV

        fitted = {}
        for covariate in self.covariates:
            name = covariate["name"]
            known = self._column(name)
            if name == DISEASE:
                shown = self._disease(self.arrays["deviations"], self._kinds())
                fitted[name] = ExtraTreesClassifier(
                    TREES, max_features=0.3, class_weight="balanced", random_state=0
                ).fit(shown, known)
            elif name not in COUNTED:
                model = RidgeCV(alphas=10.0 ** np.arange(-2, 5))
                if "levels" in covariate:
                    model = LogisticRegression(C=0.1, max_iter=1000)
                fitted[name] = model.fit(self.arrays["cells"], known)
        return fitted

    def _kinds(self):
        """The training scans' modalities as numbers."""
        if self._levels(KIND) == ["any"]:
            return np.zeros(len(self.arrays["known"]), dtype=int)
        return self._column(KIND).astype(int)

    def read(self, volume, affine, name="volume"):
        """{covariate: value} of a volume (X, Y, Z) in [-1, 1], in the units of the participants.

        Of a category the most likely level. InputError if the volume is not on the grid of the
        training scans.
        """
        shape = self.segmenter.atlas.shape[1:]
        if volume.shape != shape:
            raise InputError(f"{name}: shape {volume.shape}, the training scans have {shape}")
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))
        volume = np.where(volume < DARK, -1, volume)  # a decoder's background is not quite empty
        counted = self.segmenter.count(volume, affine)
        grid = _grid(volume, spacing, counted)[None]
        found = {}
        # The modality first: what is normal hangs on it.
        for covariate in sorted(self.covariates, key=lambda c: c["name"] == DISEASE):
            key = covariate["name"]
            if key in COUNTED:
                found[key] = counted[key]
            elif key == DISEASE:
                levels, level = self._levels(KIND), str(found.get(KIND, "any"))
                seen = deviations(volume, self._norm(level), self.where, spacing)[None]
                shown = self._disease(seen, [levels.index(level)])
                found[key] = covariate["levels"][int(self.models[key].predict(shown)[0])]
            elif "levels" in covariate:
                found[key] = covariate["levels"][int(self.models[key].predict(grid)[0])]
            else:
                found[key] = round(float(self.models[key].predict(grid)[0]), 3)
        return found


def fit_observer(study, subjects, covariates):
    """Fit to originals, regions and covariates of `subjects`; write study.model("observer").

    A scan without disease is compared with a norm that does not hold it, as scans to be read are.
    Each is shown as it is and smoothed, for the LDM's samples are smoother than scans.
    """
    rows = read_covariates(study, subjects)
    names = [covariate["name"] for covariate in covariates]
    levels = {c["name"]: [str(v) for v in c["levels"]] for c in covariates if "levels" in c}
    known = []
    for row in rows:
        for name in names:
            if row[name] is None or (name in levels and str(row[name]) not in levels[name]):
                raise InputError(f"{row['participant_id']}: {name} {row[name]} is not known")
        known.append(
            [levels[n].index(str(row[n])) if n in levels else float(row[n]) for n in names]
        )

    def scans(description):
        for subject in progress(subjects, description=description, unit="scan"):
            yield load_volume(study.volume("original", subject)), subject

    pairs = (
        (scan.data, load_labels(study.regions(subject)).data) for scan, subject in scans("atlas")
    )
    segmenter = Segmenter.fit(pairs)
    kinds = [str(row[KIND]) if KIND in levels else "any" for row in rows]
    reference = levels[DISEASE][0] if DISEASE in levels else None
    healthy = [DISEASE in levels and str(row[DISEASE]) == reference for row in rows]
    norms = {kind: Norm() for kind in levels.get(KIND, ["any"])} if reference else {}
    counted, grids, seen = [], [], []
    for (scan, _), kind, normal in zip(scans("norm"), kinds, healthy, strict=True):
        counted.append(segmenter.count(scan.data, scan.affine))
        if normal:
            norms[kind] = norms[kind].add(fine(scan.data, scan.spacing))
    lone = [kind for kind, norm in norms.items() if norm.number < 3]
    if lone:
        raise InputError(
            f"{study.participants}: fewer than 3 training scans of {lone[0]} are {reference}; "
            "the observer needs them to know what is normal"
        )
    segmenter.calibrate(counted, rows)
    where = masks(segmenter.atlas)
    for (scan, _), kind, normal in zip(scans("features"), kinds, healthy, strict=True):
        norm = norms.get(kind)
        if normal:
            norm = norm.add(fine(scan.data, scan.spacing), times=-1)
        for width in SMOOTHED:
            data = ndimage.gaussian_filter(scan.data, width / scan.spacing)
            grids.append(_grid(data, scan.spacing, segmenter.count(data, scan.affine)))
            if norms:
                seen.append(deviations(data, norm, where, scan.spacing))
    arrays = {
        "atlas": segmenter.atlas,
        "likelihood": segmenter.likelihood,
        "calibration": segmenter.calibration,
        "cells": np.array(grids),
        "known": np.repeat(known, len(SMOOTHED), axis=0).astype(np.float64),
    }
    if norms:
        arrays["deviations"] = np.array(seen)
    for kind, norm in norms.items():
        arrays |= {f"norm.{kind}.sums": norm.sums, f"norm.{kind}.squares": norm.squares}
        arrays[f"norm.{kind}.number"] = np.array([norm.number])
    path = study.model("observer")
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
    write_json(path.with_suffix(".json"), {"covariates": covariates, "subjects": len(subjects)})


def observe(study, variant, names):
    """Write study.measured(variant, name) for each volume: what the observer reads from it."""
    observer = Observer.load(study.model("observer"))
    for name in progress(names, description=f"observing {variant}", unit="volume"):
        path = study.volume(variant, name)
        volume = load_volume(path)
        write_json(study.measured(variant, name), observer.read(volume.data, volume.affine, path))


def _grid(volume, spacing, counted):
    """Features of the linear models: a coarse grid and the volumes, of about the same scale."""
    volumes = [counted["ventricular_volume"] / 5e4, counted["brain_volume"] / 1e6]
    return np.concatenate([cells(volume, spacing), volumes])
