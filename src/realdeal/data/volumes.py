"""Volumes on disk and in memory.

A volume is an array (X, Y, Z) in RAS+ order with its affine (voxel to world, mm). On disk a
volume with values in [-1, 1] is a NIfTI file of int16 with slope 1/32767: a quarter of the size
of float64, and the error of 1.5e-5 is a hundredth of the noise of a scan.
"""

import gzip
import logging
import zlib
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from realdeal.errors import InputError
from realdeal.files import atomic_path

LEVELS = 32767  # int16 value that stands for 1.0
OBLIQUE_TOLERANCE = np.deg2rad(1.0)  # rotation against the world axes that passes unmentioned

log = logging.getLogger(__name__)


class Volume(NamedTuple):
    """An array (X, Y, Z) in RAS+ order and its affine (4, 4) float64, voxel to world in mm."""

    data: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self):
        """Voxel size in mm, three floats."""
        return nib.affines.voxel_sizes(self.affine)


def load_volume(path, image=None):
    """Load one scan as float32 RAS+ `Volume`; `image` is its `load_image`, where it is at hand.

    InputError if the file is missing, damaged, not NIfTI, holds more than one volume, NaN or
    infinite values, or the same value everywhere.
    """
    volume = _load(path, image)
    data = volume.data.astype(np.float32)
    if not np.isfinite(data).all():
        raise InputError(f"{path}: holds NaN or infinite values; export the scan again")
    if data.min() == data.max():
        raise InputError(f"{path}: all voxels have the value {data.flat[0]:g}; check the export")
    return Volume(data, volume.affine)


def load_labels(path):
    """Load a label image as int16 RAS+ `Volume`; InputError as for `load_volume`."""
    volume = _load(path)
    labels = np.round(volume.data)
    if not np.isfinite(labels).all() or np.abs(labels - volume.data).max() > 1e-3:
        raise InputError(f"{path}: labels must be whole numbers; give a segmentation, not a scan")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int16).max:
        raise InputError(f"{path}: labels must lie in 0..32767; give a FreeSurfer segmentation")
    if not labels.any():
        raise InputError(f"{path}: all labels are 0; segment the scan again")
    return Volume(labels.astype(np.int16), volume.affine)


def save_volume(path, data, affine):
    """Write values in [-1, 1] as scaled int16 NIfTI; InputError if they are outside or NaN."""
    _save(path, _quantise(path, data), affine, slope=1 / LEVELS)


def save_labels(path, labels, affine):
    """Write integer labels as uint8 where they fit, else int16."""
    _save(path, labels.astype(np.uint8 if labels.max() < 256 else np.int16), affine)


def save_intensities(path, data, affine):
    """Write a raw scan as float32 NIfTI, whatever its range."""
    _save(path, data.astype(np.float32), affine)


def fit_to_shape(data, affine, shape, fill):
    """Crop or pad an array (X, Y, Z) about its centre to `shape`; padding takes the value `fill`.

    Returns a `Volume` of the same dtype whose affine is translated, so that every kept voxel
    keeps its world coordinates.
    """
    start = [(have - want) // 2 for have, want in zip(data.shape, shape, strict=True)]
    result = np.full(shape, fill, data.dtype)
    source, target = [], []
    for first, have, want in zip(start, data.shape, shape, strict=True):
        low, high = max(first, 0), min(first + want, have)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    result[tuple(target)] = data[tuple(source)]
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] = nib.affines.apply_affine(affine, start)
    return Volume(result, moved)


def rescale(data, low, high):
    """Map `low` to -1 and `high` to 1, linearly and clipped; float32."""
    if not high > low:
        raise InputError(f"preprocessing.intensity: {low} must be below {high}; swap or widen them")
    return np.clip((data - low) * (2.0 / (high - low)) - 1.0, -1.0, 1.0).astype(np.float32)


def store(path, data):
    """Write values in [-1, 1] as an int16 .npy array that can be memory-mapped."""
    values = _quantise(path, data)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, values)


def open_store(path):
    """Memory-map an array written by `store`: int16 (X, Y, Z); divide by LEVELS for values."""
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); run the preprocessing again"
        ) from error


def read_store(path, dtype=np.float32):
    """A whole array written by `store`, as values in [-1, 1]."""
    return np.asarray(open_store(path), dtype=dtype) / LEVELS


def _quantise(path, data):
    data = np.asarray(data)
    if not (np.abs(data) <= 1 + 1e-4).all():  # also false for NaN
        raise InputError(
            f"{path}: values must be finite and lie in [-1, 1]; rescale the volume, "
            "or look for a diverged network if it is a network's output"
        )
    return np.round(np.clip(data, -1, 1) * LEVELS).astype(np.int16)


def load_image(path):
    """The nibabel image of a NIfTI (or FreeSurfer's .mgz) file, read to its end.

    InputError if it is none or damaged.
    """
    path = Path(path)
    return _parse(path, _read(path))


def _load(path, image=None):
    """Read a whole NIfTI file and reorient it to RAS+; the array keeps the file's own dtype."""
    image = load_image(path) if image is None else image
    try:
        data = np.asarray(image.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: holds fewer voxels than it claims; copy it again") from error
    if data.dtype.names or np.iscomplexobj(data):
        raise InputError(f"{path}: voxels are {data.dtype}, not plain numbers; export grey values")
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim != 3 or data.size == 0:
        raise InputError(
            f"{path}: has shape {data.shape} instead of one 3-D volume; extract a single volume"
        )
    affine = image.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise InputError(f"{path}: its affine is singular; restore the header")
    if isinstance(image, nib.Nifti1Image) and not (
        image.header["sform_code"] or image.header["qform_code"]
    ):
        log.warning("%s: the header gives no orientation; voxel order is taken as it is", path)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(_plain(data), affine))
    angle = np.max(nib.affines.obliquity(canonical.affine))
    if angle > OBLIQUE_TOLERANCE:
        log.warning(
            "%s: is oblique by %.1f degrees; its voxel axes are kept where it is not registered",
            path,
            np.rad2deg(angle),
        )
    return Volume(np.ascontiguousarray(canonical.dataobj), canonical.affine.astype(np.float64))


def _plain(data):
    """A dtype that every NIfTI version takes (64-bit integers and bool need an explicit one)."""
    return data.astype(np.float64) if data.dtype.kind in "iub" and data.itemsize == 8 else data


def _read(path):
    """All bytes of a file, unpacked. Reading to the end is what verifies the gzip checksum."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is truncated or damaged ({error}); copy it again") from error


def _parse(path, content):
    freesurfer = path.suffix in (".mgz", ".mgh")
    for kind in (nib.MGHImage,) if freesurfer else (nib.Nifti1Image, nib.Nifti2Image):
        if freesurfer or kind.header_class.may_contain_header(content):
            try:
                return kind.from_bytes(content)
            except (HeaderDataError, WrapStructError, ValueError, OSError) as error:
                raise InputError(f"{path}: damaged header ({error}); copy it again") from error
    raise InputError(f"{path}: is not NIfTI; convert the scan to .nii.gz")


def _save(path, array, affine, slope=None):
    image = nib.Nifti1Image(array, affine)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="aligned")  # some readers know only the quaternion
    with atomic_path(path) as temporary:
        # nibabel compresses at level 1, its fastest, and writes no time stamp.
        nib.save(image, temporary)
