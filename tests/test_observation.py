"""The observer: volumes that it counts, deviations that it finds, covariates that it reads."""

import json

import numpy as np
import pandas as pd
import pytest

from realdeal.data.volumes import save_labels, save_volume
from realdeal.errors import InputError
from realdeal.observation.features import Norm, cells, masks
from realdeal.observation.observer import Observer, fit_observer, observe
from realdeal.observation.segmentation import Segmenter
from realdeal.study import Study

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
COVARIATES = [
    {"name": "ventricular_volume", "range": [0, 1]},
    {"name": "brain_volume", "range": [0, 1]},
    {"name": "pathology", "levels": ["healthy", "tumour"]},
    {"name": "modality", "levels": ["T1w", "T2w"]},
    {"name": "age", "range": [20, 80]},
]


def brain(seed, radius, modality="T1w", tumour=False):
    """A ball of white matter in grey with ventricles of a radius in the middle."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij")) - 9.5
    distance = np.sqrt((grid**2).sum(0))
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[distance < 9] = 2
    labels[distance < 7] = 1
    labels[(distance < 7) & (grid[2] < -5)] = 4
    labels[distance < radius] = 3
    levels = {"T1w": [-1, 0.5, 0.1, -0.7, 0.3], "T2w": [-1, -0.2, 0.1, 0.8, 0.0]}[modality]
    volume = np.array(levels, np.float32)[labels]
    if tumour:
        volume[5:8, 9:12, 9:12] = 0.95
    noise = rng.normal(0, 0.04, labels.shape) * (labels > 0)
    return np.clip(volume + noise, -1, 1).astype(np.float32), labels


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study, rows = Study(tmp_path_factory.mktemp("observed")), []
    for i in range(48):
        modality, tumour = ["T1w", "T2w"][i % 2], i % 4 > 1
        radius = 2.2 + 1.6 * ((i * 7) % 48) / 48
        volume, labels = brain(i, radius, modality, tumour)
        name = f"sub-{i:02d}"
        save_volume(study.volume("original", name), volume, AFFINE)
        save_labels(study.regions(name), labels, AFFINE)
        rows.append(
            {
                "participant_id": name,
                "pathology": "tumour" if tumour else "healthy",
                "modality": modality,
                "age": 20 + 20 * (radius - 2),
                "ventricular_volume": 64.0 * (labels == 3).sum(),
                "brain_volume": 64.0 * ((labels > 0) & (labels != 3)).sum(),
            }
        )
    study.participants.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(study.participants, sep="\t", index=False)
    fit_observer(study, [row["participant_id"] for row in rows[:36]], COVARIATES)
    return study


def test_held_out_volumes_are_read(study):
    names = [f"sub-{i:02d}" for i in range(36, 48)]
    observe(study, "original", names)
    found = [json.loads(study.measured("original", name).read_text()) for name in names]
    found = pd.DataFrame(found)
    known = pd.read_csv(study.participants, sep="\t").iloc[36:].reset_index(drop=True)
    for name in ("ventricular_volume", "brain_volume"):
        assert np.corrcoef(found[name], known[name])[0, 1] > 0.95, name
    # A linear model of both modalities at once has a harder time.
    assert np.corrcoef(found["age"], known["age"])[0, 1] > 0.3
    assert (found["ventricular_volume"] / known["ventricular_volume"]).between(0.7, 1.4).all()
    assert (found["modality"] == known["modality"]).all()
    assert (found["pathology"] == known["pathology"]).mean() > 0.9


def test_lesions_deviate_upwards_in_every_modality():
    _, labels = brain(0, 3.0)
    regions = np.stack([labels == region for region in range(6)]).astype(np.float32)
    where = masks(regions)
    for modality, polarity in (("T1w", -1), ("T2w", 1)):
        norm = Norm().add(brain(0, 3.0, modality)[0])
        assert norm.polarity(where) == polarity


def test_reading_twice_gives_the_same(study):
    observer = [Observer.load(study.model("observer")) for _ in range(2)]
    volume, _ = brain(99, 3.0)
    assert observer[0].read(volume, AFFINE) == observer[1].read(volume, AFFINE)


def test_another_grid_is_refused(study):
    observer = Observer.load(study.model("observer"))
    with pytest.raises(InputError, match="shape .* the training scans have"):
        observer.read(np.zeros((8, 8, 8), np.float32), AFFINE, "a.nii.gz")


def test_a_damaged_file_is_one_line(study, tmp_path):
    path = tmp_path / "observer.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read .* fit it again"):
        Observer.load(path)


def test_segmentation_by_hand():
    """Two regions, each certain of its place and its intensity: counts are voxels."""
    volume, labels = brain(0, 3.0)
    segmenter = Segmenter.fit([(volume, labels)] * 3)
    counted = segmenter.count(volume, AFFINE)
    assert counted["ventricular_volume"] == pytest.approx(64 * (labels == 3).sum(), rel=0.1)
    segmenter.calibrate(
        [{"ventricular_volume": v, "brain_volume": v} for v in (1.0, 2.0, 3.0)],
        [{"ventricular_volume": 2 * v + 1, "brain_volume": v} for v in (1.0, 2.0, 3.0)],
    )
    again = segmenter.count(volume, AFFINE)
    expected = 2 * counted["ventricular_volume"] + 1
    assert again["ventricular_volume"] == pytest.approx(expected, rel=1e-5)


def test_a_norm_without_a_scan_is_that_of_the_others():
    volumes = [brain(i, 3.0)[0] for i in range(4)]
    norm, others = Norm(), Norm()
    for volume in volumes:
        norm = norm.add(volume)
    for volume in volumes[1:]:
        others = others.add(volume)
    left = norm.add(volumes[0], times=-1)
    assert left.number == 3
    assert np.allclose(left.deviation(volumes[0]), others.deviation(volumes[0]), atol=1e-6)


def test_cells_by_hand():
    volume = np.full((8, 4, 4), -1.0)
    volume[:4] = 0.5
    volume[0, 0, 0] = 0.9
    mean = (63 * 0.5 + 0.9) / 64
    expected = [mean, -1, 0.9 - mean, 0, mean - 0.5, 0]
    assert cells(volume, [4, 4, 4]) == pytest.approx(expected)
