"""What is known of a degradation must show in the metrics, the more the stronger it is."""

import numpy as np
import pandas as pd
import pytest
import yaml

from realdeal.data.demo import make_subject
from realdeal.data.volumes import rescale, save_labels, save_volume
from realdeal.metrics.degradations import LEVELS, degrade
from realdeal.metrics.evaluate import evaluate
from realdeal.metrics.seam import seam_score
from realdeal.metrics.weights import alexnet_weights

RISE, FALL = 1, -1
# degradation, metric, region, direction; monotonic over all its levels
MONOTONIC = [
    ("blur", "lpips", None, RISE),
    ("blur", "hog_3x3", "brain", RISE),
    ("blur", "hog_1x1", "brain", RISE),
    ("blur", "noise_kl", "white-matter", RISE),
    ("blur", "sharpness", None, FALL),
    ("blur", "psnr", None, FALL),
    ("blur", "4_g_r_ssim", None, FALL),
    ("added noise", "lpips", None, RISE),
    ("added noise", "hog_3x3", "brain", RISE),
    ("added noise", "noise_kl", "white-matter", RISE),
    ("added noise", "sharpness", None, RISE),
    ("added noise", "psnr", None, FALL),
    ("added noise", "ssim", None, FALL),
    ("removed noise", "noise_kl", "white-matter", RISE),
    ("removed noise", "sharpness", None, FALL),
    ("removed noise", "psnr", None, FALL),
    ("shift", "lpips", None, RISE),
    ("shift", "hog_3x3", "brain", RISE),
    ("shift", "psnr", None, FALL),
    ("lost intensity", "psnr", None, FALL),
    ("lost intensity", "sharpness", None, FALL),
    ("seams", "psnr", None, FALL),
]
FAMILIES = {"hog_3x3": "hog", "hog_1x1": "hog", "noise_kl": "noise"}  # as evaluate names them


@pytest.fixture(scope="module")
def brain():
    with open("config.yaml") as file:
        config = yaml.safe_load(file)
    made = make_subject(1, 0, config["data"]["demo"], config["preprocessing"]["shape"])
    scan, truth = (
        np.where(made.labels > 0, rescale(image, 0, 1.2), -1).astype(np.float32)
        for image in (made.scan, made.truth)
    )
    return scan, truth, made.labels, made.affine, config["evaluation"]


@pytest.fixture(scope="module")
def scores(brain, tmp_path_factory):
    scan, truth, labels, affine, settings = brain
    folder = tmp_path_factory.mktemp("degradations")
    original, regions = folder / "original.nii.gz", folder / "regions.nii.gz"
    save_volume(original, scan, affine)
    save_labels(regions, labels, affine)
    options = {
        "settings": settings | {"patches": 10, "bootstrap": 0},
        "seed": 0,
        "weights": alexnet_weights("resources/weights"),
        "regions": {"sub": regions},
    }
    tables = []
    for kind, (_, levels, _) in LEVELS.items():
        candidates = {}
        for level in levels:
            path = folder / f"{kind} {level}.nii.gz"
            save_volume(path, np.clip(degrade(kind, level, scan, truth), -1, 1), affine)
            candidates[f"{kind} {level}"] = {"sub": path}
        measured = {metric for degradation, metric, *_ in MONOTONIC if degradation == kind}
        metrics = sorted({FAMILIES.get(metric, metric) for metric in measured})
        tables.append(
            evaluate({"sub": original}, candidates, folder / kind, metrics=metrics, **options)
        )
    return {
        (row.metric, row.region if isinstance(row.region, str) else None, row.candidate): row.value
        for table in tables
        for row in table.itertuples()
        if pd.isna(row.dim) or row.dim == 0
    }


@pytest.mark.parametrize(("kind", "metric", "region", "direction"), MONOTONIC)
def test_a_stronger_degradation_shows_more(scores, kind, metric, region, direction):
    values = [scores[metric, region, f"{kind} {level}"] for level in LEVELS[kind][1]]
    assert (direction * np.diff(values) > 0).all(), values


def test_none_is_perfect(scores):
    for (metric, _, candidate), value in scores.items():
        if candidate.endswith(" 0") and metric not in ("sharpness", "psnr"):
            ideal = 1 if metric.endswith("ssim") else 0
            assert value == pytest.approx(ideal, abs=1e-3), (metric, candidate)


def test_seams_show_in_the_seam_score_alone(brain):
    scan, truth, labels, _, _ = brain
    planted, blurred = (
        [
            np.nanmean(seam_score(degrade(kind, level, scan, truth), labels > 0, 16))
            for level in LEVELS[kind][1]
        ]
        for kind in ("seams", "blur")
    )
    assert (np.diff(planted) > 0).all() and planted[-1] > 1.2
    assert max(abs(score - blurred[0]) for score in blurred) < 0.1
