"""`realdeal refine` and `Refiner` on volumes of any shape, grid, orientation and intensity."""

import nibabel as nib
import numpy as np
import pytest
import torch
from small_networks import SCHEDULE, small_unet

from realdeal.cli import main
from realdeal.errors import InputError
from realdeal.networks.checkpoint import build_refiner, save_model
from realdeal.refinement.intensity import Intensity, find_intensity, foreground_quantile
from realdeal.refinement.refiner import Refiner

SHAPE = (21, 34, 18)
NETWORK = {
    "unet": small_unet(4, 8),
    "schedule": SCHEDULE,
    "parameterisation": "residual",
    "residual_std": 0.1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "refiner.safetensors"
    torch.manual_seed(0)
    description = {
        "patch_size": 8,
        "stride": 4,
        "voxel_size": [5.0, 5.0, 5.0],
        "foreground_quantile": 0.5,
        "texture": {
            "timesteps": [0, 999],
            "amplitudes": [[[amplitude] * 8] * 10 for amplitude in (0.03, 0.1, 0.1)],
            "spectra": [[1.0] * 16] * 3,
        },
    }
    save_model(path, "refiner", build_refiner(NETWORK), NETWORK, description=description)
    return path


def brain(shape=SHAPE):
    """A smooth ellipsoid of about a litre at 5 mm, values in [-1, 1], background -1."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.9
    return np.where(inside, 0.3 + 0.2 * axes[0], -1).astype(np.float32)


def write(path, data, affine=None, dtype=np.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(
        data.astype(dtype), np.diag([5.0, 5, 5, 1]) if affine is None else affine
    )
    image.header["descrip"] = b"mine"
    nib.save(image, path)
    return path


def run(model, *arguments):
    options = ("--model", model, "--steps", 2, "--device", "cpu")
    return main(["refine", *map(str, (*arguments, *options))])


def read(path):
    return nib.load(path).get_fdata(dtype=np.float32)


@pytest.mark.parametrize("traversal", ["published", "joint"])
def test_shape_grid_and_header_are_kept(model, tmp_path, traversal):
    turned = np.array([[0, 0, -5.0, 30], [4.9, -1, 0, -50], [1, 4.9, 0, 7], [0, 0, 0, 1]])
    data = np.round(700 * (brain() + 1))
    source = write(tmp_path / "in.nii.gz", data, turned, np.int16)
    target = tmp_path / "out.nii.gz"
    assert run(model, source, target, "--traversal", traversal) == 0
    result = nib.load(target)
    np.testing.assert_allclose(result.affine, turned, atol=1e-5)
    assert result.shape == SHAPE and bytes(result.header["descrip"]).startswith(b"mine")
    refined = read(target)
    assert (refined[data == 0] == 0).all()  # the background stays
    brain_voxels = data > 0
    assert np.corrcoef(refined[brain_voxels], data[brain_voxels])[0, 1] > 0.5
    assert refined[brain_voxels].mean() == pytest.approx(data[brain_voxels].mean(), rel=0.1)


def test_orientation_and_intensity_make_no_difference(model, tmp_path):
    ras = write(tmp_path / "a" / "x.nii.gz", brain())
    flipped = np.diag([-5.0, 5, 5, 1])
    las = write(tmp_path / "b" / "x.nii.gz", brain()[::-1], flipped)
    scaled = write(tmp_path / "c" / "x.nii.gz", 300 * (brain() + 1) + 20)
    results = []
    for source, options in ((ras, ()), (las, ()), (scaled, ("--intensity", 20, 620))):
        target = source.with_name("refined.nii.gz")
        assert run(model, source, target, *options) == 0
        results.append(read(target))
    np.testing.assert_allclose(results[1][::-1], results[0], atol=1e-5)
    np.testing.assert_allclose((results[2] - 20) / 300 - 1, results[0], atol=1e-4)


def test_a_folder_is_resumed_and_one_bad_volume_stops_no_other(model, tmp_path, capsys):
    for name in ("anna", "cy"):
        write(tmp_path / "in" / f"{name}.nii.gz", brain())
    (tmp_path / "in" / "bo.nii.gz").write_bytes(b"nothing")
    out = tmp_path / "out"
    assert run(model, tmp_path / "in", out) == 1
    said = capsys.readouterr()
    assert "bo.nii.gz" in said.err and "1 of 3" in said.err
    assert sorted(p.name for p in out.iterdir()) == ["anna.nii.gz", "cy.nii.gz"]
    first = read(out / "anna.nii.gz")
    assert np.abs(first - read(out / "cy.nii.gz")).max() > 1e-3  # the noise hangs on the name
    (out / "anna.nii.gz").unlink()
    written = (out / "cy.nii.gz").stat().st_mtime_ns
    write(tmp_path / "in" / "bo.nii.gz", brain())
    assert run(model, tmp_path / "in", out) == 0
    np.testing.assert_array_equal(read(out / "anna.nii.gz"), first)
    assert (out / "cy.nii.gz").stat().st_mtime_ns == written and (out / "bo.nii.gz").exists()


def test_the_seed_decides(model):
    refiner = Refiner.load(model, "cpu")
    one, again, other = (refiner.refine(brain(), seed=s, steps=2) for s in (1, 1, 2))
    assert one.shape == SHAPE and one.dtype == np.float32
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_intensities_are_found(model):
    data = brain()
    expected = foreground_quantile([data])
    assert find_intensity(data, expected) == (-1, 1)
    # Volumes in [0, 1] and in scanner units are mapped to where they came from.
    for factor, offset in ((0.5, 0), (700, 0), (700, 100)):
        found = find_intensity(factor * (data + 1) + offset, expected)
        assert found.low == pytest.approx(offset)
        assert found.high == pytest.approx(2 * factor + offset, rel=0.01)
        np.testing.assert_allclose(found.to_model(factor * (data + 1) + offset), data, atol=0.01)
    scale = Intensity(10, 60)
    np.testing.assert_allclose(scale.back(scale.to_model(np.array([10.0, 35, 60]))), [10, 35, 60])
    with pytest.raises(InputError, match="no flat background"):
        find_intensity(np.random.default_rng(0).uniform(5, 9, SHAPE), expected)


def test_what_looks_wrong_is_said(model, tmp_path, caplog, capsys):
    write(tmp_path / "fine.nii.gz", brain())
    assert run(model, tmp_path / "fine.nii.gz", tmp_path / "out.nii.gz") == 0
    assert not caplog.records
    write(tmp_path / "small.nii.gz", brain(), np.diag([1.0, 1, 1, 1]))
    assert run(model, tmp_path / "small.nii.gz", tmp_path / "out2.nii.gz") == 0
    assert "litres" in caplog.text and "learnt 5 x 5 x 5" in caplog.text
    for data, message in (
        (np.random.default_rng(0).uniform(5, 9, SHAPE), "no flat background"),
        (np.full(SHAPE, -1.0), "all voxels"),
        (np.where(brain() > 0, np.nan, -1), "NaN"),
        (np.zeros((4, 5, 6, 2)) + np.arange(2), "3-D"),
    ):
        source = write(tmp_path / "bad.nii.gz", data)
        assert run(model, source, tmp_path / "never.nii.gz") == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "never.nii.gz").exists()
    assert main(["refine", "x", "y", "--model", str(model), "--device", "cuda:7"]) == 1
    assert "cuda:7" in capsys.readouterr().err
