"""`realdeal evaluate` on small folders: the digits of the metrics themselves, clear refusals."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from realdeal.cli import main
from realdeal.data.volumes import load_labels, load_volume, save_labels, save_volume
from realdeal.metrics.perceptual import load_lpips, lpips_distance
from realdeal.metrics.seam import seam_score
from realdeal.metrics.weights import alexnet_weights

SHAPE = (40, 36, 44)
NAMES = ["anna", "bo", "cy", "dan"]
FAST = ("--patch-size", "32", "--patches", "6", "--bootstrap", "20", "--weights")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four brain-like volumes, the same blurred, labels, and the blurred ones under other names."""
    root = tmp_path_factory.mktemp("evaluate")
    affine = np.diag([2.0, 2, 2, 1])
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    ball = (grid**2).sum(0) < 0.8
    for i, name in enumerate(NAMES):
        rng = np.random.default_rng(i)
        tissue = gaussian_filter(rng.normal(size=SHAPE), 2)
        scan = np.where(ball, np.clip(3 * tissue + 0.1 * rng.normal(size=SHAPE), -0.8, 1), -1)
        blurred = np.clip(gaussian_filter(scan, 1.0), -1, 1)
        save_volume(root / "scans" / f"{name}.nii.gz", scan, affine)
        save_volume(root / "smooth" / f"{name}.nii.gz", blurred, affine)
        save_volume(root / "synthetic" / f"fake{i}.nii.gz", blurred, affine)
        labels = ball * 5
        labels[15:25, 15:25, 15:20], labels[15:25, 15:25, 22:27] = 1, 3
        save_labels(root / "labels" / f"{name}.nii.gz", labels, affine)
    return root


def ball(folders, name):
    return load_labels(folders / "labels" / f"{name}.nii.gz").data > 0


def run(folders, *arguments):
    weights = alexnet_weights("resources/weights").parent
    return main(["evaluate", *map(str, arguments), *FAST, str(weights)])


def test_all_measures_of_a_pair_of_folders(folders, tmp_path, capsys):
    csv, settings = tmp_path / "scores.csv", tmp_path / "scores.json"
    arguments = (folders / "scans", folders / "smooth", "--regions", folders / "labels")
    grid = ("--patch-grid", "16", "4", "0", "8")
    assert run(folders, *arguments, "--csv", csv, "--json", settings, *grid) == 0
    table = pd.read_csv(csv)
    assert set(table["candidate"]) == {"smooth"} and table["value"].notna().all()
    metrics = {"lpips", "hog_3x3", "hog_1x1", "noise_kl", "sharpness", "psnr", "ssim", "ms_ssim"}
    assert set(table["metric"]) == metrics | {"4_g_r_ssim", "fid", "coverage", "density", "seam"}
    seam = table[table["metric"] == "seam"].iloc[0]
    found = [
        [
            np.nanmean(seam_score(load_volume(path).data, ball(folders, name), 16, (4, 0, 8)))
            for name in NAMES
            for path in [folders / kind / f"{name}.nii.gz"]
        ]
        for kind in ("smooth", "scans")
    ]
    np.testing.assert_allclose([seam["value"], seam["scale"]], np.mean(found, 1), rtol=1e-4)
    # Other people's scans are further away than a scan's own blurred version; sharper too.
    psnr, sharp = (table[table["metric"] == m].iloc[0] for m in ("psnr", "sharpness"))
    assert psnr["scale"] < psnr["value"] and sharp["scale"] > sharp["value"]
    assert (table["ci_low"] <= table["value"] + 1e-9).mean() > 0.9
    assert len(json.loads(settings.read_text())["scores"]) == len(table)
    printed = capsys.readouterr().out
    assert "smooth (n=4)" in printed and "reference itself" in printed
    assert "lpips dim0 " in printed and "coverage dim2 k=5 " in printed
    # The same numbers straight from the metrics.
    original, blurred = (
        [load_volume(folders / kind / f"{name}.nii.gz").data for name in NAMES]
        for kind in ("scans", "smooth")
    )
    expected = np.mean(
        [
            peak_signal_noise_ratio(a, b, data_range=2)
            for a, b in zip(original, blurred, strict=True)
        ]
    )
    assert table.set_index("metric").loc["psnr", "value"] == pytest.approx(expected, rel=1e-5)


def test_two_files_and_a_seed(folders, tmp_path):
    tables = []
    for number in range(2):
        csv = tmp_path / f"{number}.csv"
        pair = (folders / "scans/anna.nii.gz", folders / "synthetic/fake0.nii.gz")
        assert run(folders, *pair, "--metrics", "lpips,psnr", "--csv", csv, "--seed", 3) == 0
        tables.append(pd.read_csv(csv))
    pd.testing.assert_frame_equal(*tables)
    # LPIPS of a whole slice, where a patch is as large as the volume.
    csv = tmp_path / "slices.csv"
    weights = alexnet_weights("resources/weights")
    options = ("--metrics", "lpips", "--patch-size", "64", "--patches", "1", "--csv", csv)
    assert main(["evaluate", *map(str, (*pair, *options, "--weights", weights.parent))]) == 0
    a, b = (load_volume(path).data for path in pair)
    model = load_lpips(weights, "cpu")
    possible = [float(lpips_distance(model, a[i : i + 1], b[i : i + 1])[0]) for i in range(40)]
    value = pd.read_csv(csv).set_index("dim").loc[0, "value"]
    assert min(abs(value - p) for p in possible) < 1e-6


def test_a_set_without_partners(folders, tmp_path, capsys):
    csv = tmp_path / "scores.csv"
    assert run(folders, folders / "scans", folders / "synthetic", "--csv", csv) == 0
    assert set(pd.read_csv(csv)["metric"]) == {"sharpness", "fid", "coverage", "density"}
    assert "only whole sets" in capsys.readouterr().out
    assert run(folders, folders / "scans", folders / "synthetic", "--metrics", "lpips") == 1
    assert "name the files alike" in capsys.readouterr().err


def damage(kind, path):
    image = nib.load(path)
    data, affine = np.asarray(image.dataobj), image.affine
    if kind == "no nifti":
        return path.write_bytes(b"nothing")
    if kind == "shape":
        data = data[:-4]
    elif kind == "affine":
        affine = np.diag([3.0, 2, 2, 1])
    elif kind == "nan":
        data = np.where(data > 0, np.nan, data)
    elif kind == "constant":
        data = np.zeros(data.shape)
    elif kind == "range":
        data = 500 * (data + 1)
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)


@pytest.mark.parametrize("kind", ["no nifti", "shape", "affine", "nan", "constant", "range"])
def test_what_does_not_fit_is_named(folders, tmp_path, capsys, kind):
    for name in NAMES:
        content = (folders / "smooth" / f"{name}.nii.gz").read_bytes()
        (tmp_path / f"{name}.nii.gz").write_bytes(content)
    damage(kind, tmp_path / "bo.nii.gz")
    assert run(folders, folders / "scans", tmp_path, "--metrics", "sharpness,psnr") == 1
    error = capsys.readouterr().err.strip()
    assert "bo.nii.gz" in error.splitlines()[-1] and "Traceback" not in error


def test_unknown_metrics_and_missing_regions(folders, capsys):
    assert run(folders, folders / "scans", folders / "smooth", "--metrics", "beauty") == 1
    assert "beauty" in capsys.readouterr().err
    assert run(folders, folders / "scans", folders / "smooth", "--metrics", "noise") == 1
    assert "--regions" in capsys.readouterr().err
    assert run(folders, folders / "scans", folders / "nowhere") == 1
    assert "nowhere" in capsys.readouterr().err
