import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from realdeal.data import demo, regions
from realdeal.data.preprocessing import COLUMNS, preprocess, write_participants
from realdeal.data.volumes import load_labels, load_volume, open_store
from realdeal.errors import InputError
from realdeal.study import Study

SETTINGS = {"shape": [20, 24, 20], "intensity": [0.0, 1000.0], "train_fraction": 0.8}
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])

# aparc+aseg labels of each region, in slabs along y
SLABS = {2: 1, 41: 1, 251: 1, 3: 2, 1035: 2, 2001: 2, 4: 3, 44: 3, 8: 4, 47: 4, 10: 5, 16: 5, 24: 5}


def test_freesurfer_mapping():
    codes = {0: 0, 77: 1, 255: 1, 42: 2, 1000: 2, 2999: 2, 5: 3, 43: 3, 7: 4, 46: 4, 14: 5, 15: 5}
    codes |= SLABS
    labels = np.array(list(codes), np.int16).reshape(-1, 1, 1)
    result = regions.from_freesurfer(labels)
    assert result.dtype == np.uint8
    assert result.ravel().tolist() == list(codes.values())


@pytest.mark.parametrize(
    ("missing", "name"),
    [((4, 44), "ventricles"), ((8, 47), "cerebellum"), ((2, 41, 251), "white-matter")],
)
def test_empty_region_is_refused(missing, name):
    labels = np.array([code for code in SLABS if code not in missing])
    with pytest.raises(InputError, match=f"scan.nii.gz: no voxel of {name}"):
        regions.from_freesurfer(labels, "scan.nii.gz")


def scan(tmp_path, name, shape=(22, 26, 18), affine=AFFINE, skull=False):
    """A FreeSurfer-style pair of files: a skull-stripped box of slabs with a rim of fluid."""
    rng = np.random.default_rng(len(name))
    labels = np.zeros(shape, np.int16)
    inner = np.s_[6:16, 4:17, 4:14]
    labels[inner] = np.array(list(SLABS))[None, :, None]
    brain = np.zeros(shape, bool)
    brain[5:17, 3:18, 3:15] = True
    image = rng.uniform(200, 900, shape).astype(np.float32)
    image[~(brain | skull)] = 0
    files = {}
    for kind, data in (("image", image), ("labels", labels)):
        files[kind] = str(tmp_path / f"{name}_{kind}.nii.gz")
        nib.save(nib.Nifti1Image(data, affine), files[kind])
    return files, image, labels, brain


def test_freesurfer_scan(tmp_path):
    files, image, labels, brain = scan(tmp_path, "a")
    study = Study(tmp_path / "study")
    preprocess(study, ["a"], {"a": files}, SETTINGS, False)
    volume, codes = load_volume(study.volume("original", "a")), load_labels(study.regions("a"))
    assert volume.data.shape == codes.data.shape == tuple(SETTINGS["shape"])
    np.testing.assert_allclose(volume.affine, codes.affine)
    # (22, 26, 18) becomes (20, 24, 20): crop by 1, 1 and pad by 1
    np.testing.assert_allclose(volume.affine[:3, 3], [2, 2, -2])
    same = np.s_[:, :, 1:-1]
    expected = np.where(brain, image / 500 - 1, -1)[1:-1, 1:-1]
    np.testing.assert_allclose(volume.data[same], expected, atol=1e-4)
    assert (volume.data[codes.data == 0] <= -0.9999).all()
    assert (volume.data[codes.data > 0] > -0.999).all()
    # unlabelled fluid that the stripped scan keeps belongs to the brain
    assert (codes.data[same][(brain & (labels == 0))[1:-1, 1:-1]] == regions.OTHER).all()
    np.testing.assert_allclose(
        open_store(study.store("original", "a")) / 32767, volume.data, atol=1e-6
    )


def test_scan_with_skull_is_cut_to_its_labels(tmp_path, caplog):
    files, _, labels, _ = scan(tmp_path, "a", skull=True)
    study = Study(tmp_path / "study")
    preprocess(study, ["a"], {"a": files}, SETTINGS, False)
    codes = load_labels(study.regions("a")).data
    assert (codes > 0).sum() == (labels > 0).sum()
    assert "not skull-stripped" in caplog.text


def test_missing_labels(tmp_path):
    files, *_ = scan(tmp_path, "a")
    with pytest.raises(InputError, match="subject a has no labels.*data.folder.labels"):
        preprocess(Study(tmp_path), ["a"], {"a": {**files, "labels": None}}, SETTINGS, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (22, 26, 20)}, "has shape"),
        ({"affine": np.diag([2.0, 2.0, 2.1, 1.0])}, "has voxels of"),
    ],
)
def test_unequal_cohort(tmp_path, change, message):
    files = {name: scan(tmp_path, name, **kw)[0] for name, kw in (("a", {}), ("bb", change))}
    with pytest.raises(InputError, match=message) as error:
        preprocess(Study(tmp_path), ["a", "bb"], files, SETTINGS, False)
    assert files["bb"]["image"] in str(error.value)


def test_labels_on_another_grid(tmp_path):
    files = {"a": scan(tmp_path, "a")[0]}
    moved = np.array(AFFINE)
    moved[0, 3] = 3
    files["a"]["labels"] = scan(tmp_path, "b", affine=moved)[0]["labels"]
    with pytest.raises(InputError, match="does not lie on the grid"):
        preprocess(Study(tmp_path), ["a"], files, SETTINGS, False)


@pytest.mark.parametrize("intensity", [[0.0, 1.2], [0.0, 1e6]])
def test_unsuitable_thresholds(tmp_path, intensity):
    files = {"a": scan(tmp_path, "a")[0]}
    with pytest.raises(InputError, match="preprocessing.intensity"):
        preprocess(Study(tmp_path), ["a"], files, {**SETTINGS, "intensity": intensity}, False)


def test_demo_study(tmp_path):
    study = Study(tmp_path / "demo")
    subjects = ["sub-001", "sub-002"]
    settings = {"voxel_size": 3.0, "white_matter_snr": [20, 28], "ageing": "weak"}
    settings |= {"pathologies": ["healthy"], "modalities": ["T1w"]}
    preprocessing = {"shape": [54, 68, 54], "intensity": [0.0, 1.2]}
    demo.write_cohort(study, subjects, settings, preprocessing["shape"], 0)
    files = {
        subject: {
            "image": str(study.cohort("T1w", subject)),
            "labels": str(study.cohort("labels", subject)),
        }
        for subject in subjects
    }
    preprocess(study, subjects, files, preprocessing, True, ["sub-002"])
    assert not study.volume("rescan", "sub-001").exists()
    made = demo.make_subject(2, 0, settings, preprocessing["shape"])
    brain = made.labels > 0
    for variant, image in (("original", made.scan), ("rescan", made.rescan)):
        volume = load_volume(study.volume(variant, "sub-002"))
        np.testing.assert_allclose(volume.affine, made.affine)
        expected = np.where(brain, np.clip(image / 0.6 - 1, -1, 1), -1)
        np.testing.assert_allclose(volume.data, expected, atol=1e-4)
        assert (volume.data[~brain] <= -0.9999).all()
    np.testing.assert_array_equal(load_labels(study.regions("sub-002")).data, made.labels)

    write_participants(study, subjects, ["sub-001"], ["sub-002"])
    table = pd.read_csv(study.participants, sep="\t")
    columns = [name for name in COLUMNS if name != "person"]  # each was scanned once
    assert list(table.columns) == columns
    assert table["split"].tolist() == ["train", "test"]
    row = table.set_index("participant_id").loc["sub-002"]
    for name in columns[2:]:
        assert row[name] == made.covariates[name]


def test_participants_without_covariates(tmp_path):
    study = Study(tmp_path / "study")
    files = {name: scan(tmp_path, name)[0] for name in ("a", "bb")}
    preprocess(study, list(files), files, SETTINGS, False)
    write_participants(study, list(files), ["a"], ["bb"])
    lines = study.participants.read_text().splitlines()
    assert lines[1].split("\t")[:6] == ["a", "train", "n/a", "n/a", "n/a", "n/a"]
    assert float(lines[1].split("\t")[6]) == 10 * 2 * 10 * 8
