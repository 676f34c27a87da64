import gzip
import logging

import nibabel as nib
import numpy as np
import pytest

from realdeal.data import volumes
from realdeal.errors import InputError

AFFINE = np.array([[2.5, 0, 0, -20], [0, 2.5, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])


@pytest.fixture
def data():
    values = np.random.default_rng(0).uniform(-1, 1, (7, 9, 8)).astype(np.float32)
    values[:2] = -1
    values[-1, 0, 0] = 1
    return values


def write(path, data, affine=AFFINE):
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def refused(path, *words, load=volumes.load_volume):
    with pytest.raises(InputError) as error:
        load(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    assert all(word in message for word in words), message


def test_round_trip_through_int16(tmp_path, data):
    path = tmp_path / "a" / "volume.nii.gz"
    volumes.save_volume(path, data, AFFINE)
    header = nib.load(path).header
    assert header.get_data_dtype() == np.int16
    # Other readers apply the stored slope and intercept.
    raw = nib.load(path).dataobj
    assert (raw.slope, raw.inter) == (pytest.approx(1 / 32767), 0)
    back = volumes.load_volume(path)
    assert back.data.dtype == np.float32 and back.affine.dtype == np.float64
    assert np.abs(back.data - data).max() <= 0.51 / 32767
    assert back.data[:2].max() <= -0.9999
    np.testing.assert_allclose(back.affine, AFFINE)
    np.testing.assert_allclose(back.spacing, 2.5)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_files_are_reproducible(tmp_path, data):
    paths = [tmp_path / name for name in ("a.nii.gz", "b.nii.gz")]
    for path in paths:
        volumes.save_volume(path, data, AFFINE)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("bad", [1.5, np.nan, np.inf])
def test_save_refuses_what_int16_cannot_hold(tmp_path, data, bad):
    data[3, 3, 3] = bad
    path = tmp_path / "volume.nii.gz"
    with pytest.raises(InputError, match="finite"):
        volumes.save_volume(path, data, AFFINE)
    assert not any(tmp_path.iterdir())


def test_labels_round_trip(tmp_path):
    for top, dtype in ((5, np.uint8), (2035, np.int16)):
        labels = np.random.default_rng(0).integers(0, top + 1, (5, 6, 7))
        labels[0, 0, 0] = top
        path = tmp_path / "labels.nii.gz"
        volumes.save_labels(path, labels, AFFINE)
        assert nib.load(path).get_data_dtype() == dtype
        np.testing.assert_array_equal(volumes.load_labels(path).data, labels)


def test_labels_are_whole_numbers_and_not_empty(tmp_path):
    path = tmp_path / "labels.nii.gz"
    write(path, np.full((4, 4, 4), 0.5, np.float32))
    refused(path, "whole numbers", load=volumes.load_labels)
    write(path, np.zeros((4, 4, 4), np.uint8))
    refused(path, "all labels are 0", load=volumes.load_labels)
    write(path, np.full((4, 4, 4), -3, np.int16))
    refused(path, "0..32767", load=volumes.load_labels)


@pytest.mark.parametrize("orientation", ["LAS", "LPI", "PSR", "SAL"])
def test_any_orientation_becomes_ras(tmp_path, data, orientation):
    transform = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    )
    turned = nib.Nifti1Image(data, AFFINE).as_reoriented(transform)
    assert "".join(nib.aff2axcodes(turned.affine)) == orientation
    path = tmp_path / "turned.nii.gz"
    nib.save(turned, path)
    back = volumes.load_volume(path)
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_allclose(back.affine, AFFINE)


def test_nifti2_integers_and_single_volume_series(tmp_path, data):
    path = tmp_path / "two.nii"
    nib.save(nib.Nifti2Image(data[..., None], AFFINE), path)
    np.testing.assert_array_equal(volumes.load_volume(path).data, data)
    counts = np.arange(60).reshape(3, 4, 5)
    nib.save(nib.Nifti1Image(counts, AFFINE, dtype=np.int64), path)
    np.testing.assert_array_equal(volumes.load_volume(path).data, counts)


def test_missing_file(tmp_path):
    refused(tmp_path / "none.nii.gz", "no such file")
    refused(tmp_path, "no such file")


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.02])
def test_truncated_gzip(tmp_path, data, kept):
    path = write(tmp_path / "a.nii.gz", data)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    refused(path, "truncated or damaged", "copy it again")


def test_flipped_bit_in_gzip(tmp_path, data):
    path = write(tmp_path / "a.nii.gz", data)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    refused(path, "copy it again")


def test_truncated_without_gzip(tmp_path, data):
    path = write(tmp_path / "a.nii", data)
    path.write_bytes(path.read_bytes()[:-500])
    refused(path, "copy it again")


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 2000, gzip.compress(b"text" * 300)])
def test_not_nifti(tmp_path, content):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    refused(path, "not NIfTI", "convert")


def test_shapes_that_are_no_single_volume(tmp_path):
    values = np.random.default_rng(0).random((4, 5, 6, 2), np.float32)
    refused(write(tmp_path / "series.nii.gz", values), "3-D", "(4, 5, 6, 2)")
    refused(write(tmp_path / "slice.nii.gz", values[..., 0, 0]), "3-D")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, data, bad):
    data[1, 2, 3] = bad
    refused(write(tmp_path / "a.nii.gz", data), "NaN or infinite")


def test_constant(tmp_path):
    refused(write(tmp_path / "a.nii.gz", np.full((4, 4, 4), 7, np.float32)), "value 7")


def test_complex_and_singular(tmp_path, data):
    refused(write(tmp_path / "a.nii.gz", data.astype(np.complex64)), "plain numbers")
    path = tmp_path / "b.nii.gz"
    image = nib.Nifti1Image(data, AFFINE)
    image.header["srow_x"] = 0
    image.header["sform_code"] = 1
    content = bytearray(image.to_bytes())
    content[280:296] = bytes(16)  # srow_x
    path.write_bytes(gzip.compress(bytes(content)))
    refused(path, "singular")


def test_oblique_is_accepted_with_a_warning(tmp_path, data, caplog):
    angle = np.deg2rad(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    path = write(tmp_path / "a.nii.gz", data, turn @ AFFINE)
    with caplog.at_level(logging.WARNING):
        volume = volumes.load_volume(path)
    assert "oblique by 12.0 degrees" in caplog.text
    np.testing.assert_allclose(volume.affine, turn @ AFFINE, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 9, 8), (4, 4, 4), (12, 13, 15), (3, 20, 8), (8, 8, 9)])
def test_crop_and_pad_keep_world_coordinates(shape):
    source = np.arange(1, 7 * 9 * 8 + 1, dtype=np.int32).reshape(7, 9, 8)
    result = volumes.fit_to_shape(source, AFFINE, shape, 0)
    assert result.data.shape == shape and result.data.dtype == source.dtype
    kept = np.argwhere(result.data > 0)
    world = nib.affines.apply_affine(result.affine, kept)
    before = np.round(nib.affines.apply_affine(np.linalg.inv(AFFINE), world)).astype(int)
    np.testing.assert_array_equal(result.data[tuple(kept.T)], source[tuple(before.T)])
    assert len(kept) == np.prod(np.minimum(shape, source.shape))
    # Centred: the middle of the field of view moves by no more than half a voxel.
    middles = [
        nib.affines.apply_affine(affine, (np.array(size) - 1) / 2)
        for affine, size in ((AFFINE, source.shape), (result.affine, shape))
    ]
    assert np.abs(middles[0] - middles[1]).max() <= 1.25 + 1e-9


def test_rescale():
    values = volumes.rescale(np.array([-5.0, 0.0, 0.6, 1.2, 9.0]), 0.0, 1.2)
    np.testing.assert_allclose(values, [-1, -1, 0, 1, 1], atol=1e-7)
    assert values.dtype == np.float32
    with pytest.raises(InputError, match="preprocessing.intensity"):
        volumes.rescale(values, 1.0, 1.0)


def test_store_is_memory_mapped(tmp_path, data):
    path = tmp_path / "deep" / "a.npy"
    volumes.store(path, data)
    back = volumes.open_store(path)
    assert isinstance(back, np.memmap) and back.dtype == np.int16
    assert np.abs(back / volumes.LEVELS - data).max() <= 0.51 / 32767
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="preprocessing again"):
        volumes.open_store(path)
    with pytest.raises(InputError, match="none.npy"):
        volumes.open_store(tmp_path / "none.npy")
