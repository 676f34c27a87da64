"""The protocol on the files of a small study."""

import os

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import numpy as np
import pytest
import torch
from scipy import ndimage

from realdeal.data.volumes import save_labels, save_volume
from realdeal.errors import InputError
from realdeal.metrics import protocol
from realdeal.metrics.weights import alexnet_weights
from realdeal.study import Study

torch.set_num_threads(1)

SUBJECTS = ["a", "b", "c"]
OTHERS = ["d", "e"]
SYNTHETIC = ["synthetic-001", "synthetic-002"]
SETTINGS = {
    "patch_size": 32,
    "patches": 6,
    "bootstrap": 8,
    "hog": {"orientations": 9, "pixels_per_cell": 8},
    "noise": {"model": "Gaussian", "bins": 32, "range": [-0.15, 0.15], "pseudocount": 1.0},
    "sharpness": {"sigma": 0.5},
    "distribution": {"features": "alexnet", "neighbours": [2, 5]},
}
SHAPE = (36, 40, 36)


def _brain(seed):
    """A ball of white matter in grey matter, with ventricles and a cerebellum; noise 0.04."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    labels = np.select([radius < 0.2, radius < 0.6, radius < 0.9], [3, 1, 2], 0)
    labels[(axes[2] < -0.4) & (labels > 0)] = 4
    tissue = np.array([-1, 0.3, 0, -0.6, 0.1])[labels]
    tissue = tissue + 0.1 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2)
    scan = tissue + 0.04 * rng.standard_normal((2, *SHAPE))
    original, rescan = np.clip(np.where(labels > 0, scan, -1), -1, 1)
    smooth = np.clip(np.where(labels > 0, ndimage.gaussian_filter(tissue, 1), -1), -1, 1)
    return labels, original, rescan, smooth


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("study"))
    affine = np.eye(4)
    for i, subject in enumerate([*SUBJECTS, *OTHERS]):
        labels, original, rescan, smooth = _brain(i)
        save_labels(study.regions(subject), labels, affine)
        save_volume(study.volume("original", subject), original, affine)
        save_volume(study.volume("reconstructed", subject), smooth, affine)
        save_volume(study.volume("rescan", subject), rescan, affine)
    for i, subject in enumerate(SYNTHETIC):
        _, original, _, smooth = _brain(100 + i)
        save_volume(study.volume("synthetic", subject), smooth, affine)
        save_volume(study.volume("synthetic-refined", subject), original, affine)
    protocol.draw_patches(study, SUBJECTS + OTHERS, SYNTHETIC, SETTINGS, 7)
    return study


@pytest.fixture(scope="session")
def alexnet():
    return alexnet_weights("resources/weights")


VARIANTS = ["reconstructed", "rescan"]


def _means(table, **keys):
    for key, value in keys.items():
        table = table[table[key] == value]
    return table.groupby("variant")["value"].mean()


def test_patches_depend_on_name_and_seed_alone(study, tmp_path):
    before = np.load(study.patches("b"))["dim1"]
    protocol.draw_patches(study, ["b"], [], SETTINGS, 7)
    np.testing.assert_array_equal(np.load(study.patches("b"))["dim1"], before)
    assert (np.load(study.patches("a"))["dim1"] != before).any()
    protocol.draw_patches(study, ["b"], [], SETTINGS, 8)
    assert (np.load(study.patches("b"))["dim1"] != before).any()
    protocol.draw_patches(study, ["b"], [], SETTINGS, 7)
    assert np.load(study.patches(SYNTHETIC[0]))["volume"].shape == (6, 3)


def test_lpips(study, alexnet):
    table = protocol.score_lpips(study, VARIANTS, SUBJECTS, SETTINGS, alexnet, "cpu")
    assert list(table.columns) == protocol.COLUMNS
    assert len(table) == 3 * len(SUBJECTS) * len(VARIANTS)
    assert table["region"].isna().all() and table["draw"].isna().all()
    for dim in range(3):
        means = _means(table, dim=dim)
        assert 0 < means["rescan"] < means["reconstructed"]
    assert study.scores("lpips").read_text().startswith(",".join(protocol.COLUMNS))


def test_hog(study):
    table = protocol.score_hog(study, [*VARIANTS, "original"], SUBJECTS, SETTINGS)
    assert set(table["metric"]) == {"hog_3x3", "hog_1x1"}
    assert set(table["region"]) == {"brain", "cerebellum"}
    assert (table[table["variant"] == "original"]["value"] == 0).all()
    assert not table.duplicated(["metric", "region", "dim", "variant", "subject"]).any()
    small = _means(table, metric="hog_3x3", region="cerebellum")
    assert (small <= _means(table, metric="hog_3x3", region="brain")).all()


def test_sharpness_and_seam(study):
    variants = ["original", *VARIANTS]
    table = protocol.score_sharpness(study, variants, SUBJECTS, SETTINGS)
    means = _means(table)
    assert means["reconstructed"] < 0.5 * means["original"]
    assert means["rescan"] == pytest.approx(means["original"], rel=0.1)
    table = protocol.score_seam(study, variants, SUBJECTS, 16)
    assert len(table) == len(SUBJECTS) * len(variants)
    assert 0.8 < _means(table)["original"] < 1.2


def test_noise(study):
    for variant in ["original", *VARIANTS]:
        protocol.extract_noise(study, variant, SUBJECTS, SETTINGS)
    with np.load(study.noise("original")) as arrays:
        assert arrays["counts"].shape == (3, 2, 32) and arrays["edges"].shape == (33,)
        sizes = [(_brain(0)[0] == label).sum() for label in (1, 3)]
        assert arrays["counts"][0].sum(axis=1).tolist() == sizes
        white = arrays["sigma"][:, 0]  # the ventricles are all border at this size
        assert ((white > 0.03) & (white < 0.05)).all()
    table = protocol.score_noise(study, VARIANTS, SUBJECTS, SETTINGS, 3)
    for region in ("white-matter", "ventricles"):
        means = _means(table, region=region, draw=0)
        assert 0 <= means["rescan"] < 0.2 * means["reconstructed"]
    assert sorted(table["draw"].unique()) == list(range(9))
    again = protocol.score_noise(study, VARIANTS[::-1], SUBJECTS, SETTINGS, 3)
    for variant in VARIANTS:  # the same draws whatever the company
        np.testing.assert_array_equal(
            *(t[t["variant"] == variant]["value"].to_numpy() for t in (table, again))
        )
    with pytest.raises(InputError, match="other subjects"):
        protocol.score_noise(study, VARIANTS, SUBJECTS[:2], SETTINGS, 3)
    protocol.extract_noise(
        study, "rescan", SUBJECTS, {"noise": {**SETTINGS["noise"], "range": [-0.2, 0.2]}}
    )
    with pytest.raises(InputError, match="other edges"):
        protocol.score_noise(study, VARIANTS, SUBJECTS, SETTINGS, 3)


@pytest.mark.filterwarnings("ignore:Fréchet")
def test_distribution(study, alexnet):
    options = SETTINGS, alexnet
    protocol.extract_features(study, "original", SUBJECTS, *options)
    protocol.extract_features(study, "original", OTHERS, *options, name="original-others")
    for variant in ("synthetic", "synthetic-refined"):
        protocol.extract_features(study, variant, SYNTHETIC, *options)
    with np.load(study.features("original-others")) as arrays:
        assert arrays["dim2"].shape == (2, 6, 256) and str(arrays["extractor"]) == "alexnet"
    candidates = ["synthetic", "synthetic-refined"]
    table = protocol.score_distribution(study, candidates, SETTINGS, 3)
    assert set(table["variant"]) == {"original", *candidates}
    assert len(table) == 3 * 3 * (1 + 2 * 2) * 9
    fid = _means(table, metric="fid", draw=0)
    assert fid["original"] < fid["synthetic"] and fid["synthetic-refined"] < fid["synthetic"]
    for keys in ({"metric": "fid", "dim": 0}, {"metric": "density", "dim": 1, "k": 5}):
        draws = table
        for key, value in keys.items():
            draws = draws[draws[key] == value]
        draws = draws[draws["variant"] == "synthetic"].set_index("draw")["value"]
        assert draws.iloc[1:].min() < draws.loc[0] < draws.iloc[1:].max()
    assert table[table["metric"] == "coverage"]["value"].between(0, 1).all()
    with pytest.raises(InputError, match="between 1 and 17"):
        few = {**SETTINGS, "distribution": {"features": "alexnet", "neighbours": [18]}}
        protocol.score_distribution(study, candidates, few, 3)
    protocol.extract_features(study, "original", SUBJECTS[:1], *options, name="original-others")
    with pytest.raises(InputError, match="among the evaluated"):
        protocol.score_distribution(study, candidates, SETTINGS, 3)


def test_clear_errors_name_the_file(study, tmp_path):
    other = Study(tmp_path)
    labels, original, *_ = _brain(0)
    save_volume(other.volume("original", "a"), original, np.eye(4))
    save_volume(other.volume("reconstructed", "a"), original[:-1], np.eye(4))
    save_labels(other.regions("a"), np.where(labels == 3, 1, labels), np.eye(4))
    with pytest.raises(InputError, match=r"regions/a.nii.gz: no ventricles"):
        protocol.extract_noise(other, "original", ["a"], SETTINGS)
    with pytest.raises(InputError, match=r"patches/a.npz: cannot be read"):
        protocol.score_sharpness(other, ["original"], ["a"], SETTINGS)
    protocol.draw_patches(other, ["a"], [], SETTINGS, 0)
    with pytest.raises(InputError, match=r"reconstructed/a.nii.gz: shape"):
        protocol.score_hog(other, ["reconstructed"], ["a"], SETTINGS)
    with pytest.raises(InputError, match=r"reconstructed/a.nii.gz: .*differ in shape"):
        protocol.score_seam(other, ["reconstructed"], ["a"], 16)
    assert not other.scores("hog").exists()
