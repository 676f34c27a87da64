"""Which published system a study reproduces, and the synthetic volumes that this needs.

Standard library only: the Snakefile imports it.
"""

import csv
from itertools import product
from typing import NamedTuple

from realdeal.dataset.names import numbered
from realdeal.errors import InputError

REALDEAL, BRAIN_LDM, CONDITIONAL_MRI = "realdeal", "brain-ldm", "conditional-mri"


class SampleSet(NamedTuple):
    """Synthetic volumes <set>-001, <set>-002... of one LDM, sampled in one way.

    Volumes of the same number start from the same noise in every set and, unless `asked` says
    otherwise ({name: covariates}), are asked for the same covariates.
    """

    names: list
    settings: dict
    model: str = "ldm"
    asked: dict = {}


def check_system(config):
    """InputError if the system needs a conditioning that the config does not have."""
    system, conditioning = config["system"], config["ldm"]["conditioning"]
    named = {c["name"]: c for c in conditioning["covariates"]} if conditioning else {}
    guidance = config["sampling"]["ldm"]["guidance"]
    if guidance != 1 and not (conditioning or {}).get("dropout"):
        raise InputError(
            f"sampling.ldm.guidance: {guidance} needs an LDM that is also trained without "
            "covariates; set ldm.conditioning.dropout, or guidance to 1"
        )
    if system == BRAIN_LDM and not any("range" in c for c in named.values()):
        raise InputError("system: brain-ldm needs ldm.conditioning with a continuous covariate")
    if system == CONDITIONAL_MRI and not all(
        "levels" in named.get(name, ()) for name in ("pathology", "modality")
    ):
        raise InputError(
            "system: conditional-mri needs ldm.conditioning with levels of pathology and modality"
        )
    other = config["sampling"]["coarse"] != "ldm" or config["ldm"]["source"] != "trained"
    if system != REALDEAL and other:
        raise InputError(
            f"system: {system} samples its own LDM in several ways; sampling.coarse must be ldm, "
            "ldm.source trained"
        )


def seen_cells(subjects, cells, unseen):
    """The `subjects` whose cell (pathology, modality) is not kept from the trainings.

    InputError if a cell of `unseen` does not occur, or if nothing is left.
    """
    unseen = [tuple(cell) for cell in unseen]
    for cell in unseen:
        if cell not in cells.values():
            known = sorted({" x ".join(map(str, c)) for c in cells.values()})
            raise InputError(
                f"preprocessing.unseen: no subject is {' x '.join(cell)}; there are "
                f"{', '.join(known) or 'no cells'}"
            )
    left = [subject for subject in subjects if cells.get(subject) not in unseen]
    if not left:
        raise InputError("preprocessing.unseen: leaves no subject to train on")
    return left


def ablations(conditioning):
    """{name: conditioning} with one category left out, and with none at all."""
    covariates = conditioning["covariates"]
    found = {}
    for left_out in covariates:
        rest = [c for c in covariates if c is not left_out]
        if "levels" in left_out and rest:
            found[f"without-{left_out['name']}"] = conditioning | {"covariates": rest}
    return found | {"without-conditioning": None}


def network_settings(section):
    """What a training depends on: not on the number of threads, nor on what stands in for it.

    `section` is that of a network in the config.
    """
    others = ("threads", "source", "bundle")
    return {key: value for key, value in section.items() if key not in others}


def ldms(config):
    """{name of a model: its settings} of all LDMs of the study."""
    settings = network_settings(config["ldm"])
    found = {"ldm": settings}
    if config["system"] == CONDITIONAL_MRI:
        for name, conditioning in ablations(settings["conditioning"]).items():
            found[f"ldm-{name}"] = settings | {"conditioning": conditioning}
    return found


def way(settings):
    """What a way of sampling is called: ddim-50."""
    return f"{settings['sampler']}-{settings['steps']}"


def requests(names, config):
    """What the LDM is asked for, {name: covariates}, where that is known before anything runs.

    The rows of the table sampling.covariates, in turn; else, if all covariates are categories,
    every combination of levels in turn. Other requests are drawn from the cohort, later.
    """
    conditioning = config["ldm"]["conditioning"]
    if not conditioning:
        return {}
    covariates = conditioning["covariates"]
    rows = []
    if config["sampling"]["covariates"]:
        rows = read_requests(config["sampling"]["covariates"], covariates)
    elif all("levels" in c for c in covariates):
        keys = [c["name"] for c in covariates]
        rows = [
            dict(zip(keys, v, strict=True)) for v in product(*(c["levels"] for c in covariates))
        ]
    return {name: rows[i % len(rows)] for i, name in enumerate(names) if rows}


def read_requests(path, covariates):
    """Rows of a tab-separated table of covariates; InputError, with the line, for a bad one."""
    try:
        with open(path, newline="") as file:
            table = list(csv.DictReader(file, delimiter="\t"))
    except OSError as error:
        raise InputError(f"sampling.covariates: {path} cannot be read ({error.strerror})") from None
    if not table:
        raise InputError(f"{path}: has no rows; give one line for each volume to ask for")
    rows = []
    for number, line in enumerate(table, 2):
        row = {}
        for covariate in covariates:
            name, value = covariate["name"], line.get(covariate["name"])
            if value in (None, "", "n/a"):
                raise InputError(f"{path}, line {number}: has no {name}; ask for all covariates")
            if "levels" in covariate:
                levels = [str(level) for level in covariate["levels"]]
                if value not in levels:
                    raise InputError(
                        f"{path}, line {number}: {name} {value!r} is none of {', '.join(levels)}"
                    )
                row[name] = value
                continue
            try:
                row[name] = float(value)
            except ValueError:
                raise InputError(
                    f"{path}, line {number}: {name} {value!r} is not a number"
                ) from None
        rows.append(row)
    return rows


def extrapolation(config):
    """{name: covariates}: one covariate beyond its range, everything else in the middle.

    Values of sampling_study.extrapolation are on the scale where the range is [0, 1] (Pinaya
    2022 asks for ventricles of 1.9). All start from the same noise.
    """
    covariates = config["ldm"]["conditioning"]["covariates"]
    ranges = {c["name"]: c["range"] for c in covariates if "range" in c}
    middle = {
        c["name"]: sum(c["range"]) / 2 if "range" in c else c["levels"][0] for c in covariates
    }
    found = {}
    for name, values in config["sampling_study"]["extrapolation"].items():
        if name not in ranges:
            raise InputError(
                f"sampling_study.extrapolation: {name} is no continuous covariate of "
                f"ldm.conditioning; there are {', '.join(ranges)}"
            )
        low, high = ranges[name]
        for value in values:
            found[f"{name}_{value:g}-001"] = middle | {name: low + value * (high - low)}
    return found


def sample_sets(config, synthetic, further=()):
    """{name: `SampleSet`} of the study; `synthetic` are the names of the set that is refined.

    The `further` names of a dataset are asked for in the same turn.
    """
    settings = config["sampling"]["ldm"]
    wanted = requests([*synthetic, *further], config)
    sets = {"synthetic": SampleSet(synthetic, settings, "ldm", wanted)}
    count = len(synthetic)
    if config["system"] == BRAIN_LDM:
        for other in config["sampling_study"]["ways"]:
            names = numbered(way(other), count)
            if way(other) != way(settings):
                sets[way(other)] = SampleSet(
                    names, settings | other, "ldm", requests(names, config)
                )
        asked = extrapolation(config)
        sets["extrapolation"] = SampleSet(list(asked), settings, "ldm", asked)
    if config["system"] == CONDITIONAL_MRI:
        for model in ldms(config):
            if model != "ldm":
                name = model.removeprefix("ldm-")
                names = numbered(name, count)
                # Without the covariates there is nothing that guidance could follow.
                plain = settings | ({} if name != "without-conditioning" else {"guidance": 1})
                sets[name] = SampleSet(names, plain, model, requests(names, config))
    return sets


# Tables and figures of the systems beside RealDeal, and their titles.
ITEMS = {
    REALDEAL: {"tables": {}, "figures": {}},
    BRAIN_LDM: {
        "tables": {
            "quality": "Quality and diversity of synthetic brains, and the time that each takes",
            "obedience": "Covariates that were asked for, and those measured on the samples",
        },
        "figures": {
            "samples": "Held-out scans, samples and refined samples",
            "obedience": "Asked and measured covariates; held-out scans in grey",
            "steps": "Steps of DDIM against quality, obedience and time",
            "extrapolation": "Ventricular and brain volume beyond the range of the training set",
        },
    },
    CONDITIONAL_MRI: {
        "tables": {
            "cells": "FID, MS-SSIM and recognised samples of each pathology in each modality",
            "unseen": "Seen and unseen combinations of pathology and modality",
            "ablation": "What the conditioning is worth",
            "autoencoder": "Fidelity of the autoencoder",
        },
        "figures": {
            "grid": "Pathology x modality: scan, sample, refined sample; unseen cells framed",
        },
    },
}
