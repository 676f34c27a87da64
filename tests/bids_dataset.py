"""A small BIDS dataset of demo brains, each lying in its scanner in its own way.

`python tests/bids_dataset.py FOLDER [SUBJECTS]` writes one to look at (docs/bids.md).
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from realdeal.data import demo

SPACING = 4.0
SHAPE = (40, 50, 40)
FREESURFER = np.array([0, 2, 3, 4, 8, 16], np.int16)  # a label for each region code
UNIT = 600.0  # of the scanner


def make_brain(number):
    return demo.make_subject(
        number, 0, {"voxel_size": SPACING, "white_matter_snr": [20, 28], "ageing": "weak"}, SHAPE
    )


def pose(degrees, shift):
    """A rigid map (4, 4) of world points in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def scan(subject):
    """A scan in scanner units, with a coil's bias field that differs by 60 % side to side."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return (UNIT * subject.scan * np.exp(0.25 * x - 0.2 * y)).astype(np.float32)


def head(subject):
    """The brain in its head: fluid, bone, scalp and noise around it."""
    distance = ndimage.distance_transform_edt(subject.labels == 0, sampling=SPACING)
    layers = np.select(
        [distance == 0, distance <= 3, distance <= 8, distance <= 15],
        [scan(subject) / UNIT, demo.CSF, 0.03, 0.9],
    )
    noise = 0.03 * np.random.default_rng(0).standard_normal(SHAPE)
    return (UNIT * np.abs(layers + noise)).astype(np.float32)


def write(path, data, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return str(path)


def write_dataset(folder, count):
    """sub-01, sub-02... with participants.tsv and labels below derivatives/synthseg."""
    folder = Path(folder)
    rows = ["participant_id\tage\tsex\tgroup"]
    rng = np.random.default_rng(1)
    for number in range(1, count + 1):
        subject, name = make_brain(number), f"sub-{number:02d}"
        where = pose(rng.uniform(-15, 15, 3), rng.uniform(-20, 20, 3)) @ subject.affine
        write(folder / name / "anat" / f"{name}_T1w.nii.gz", scan(subject), where)
        labels = folder / "derivatives" / "synthseg" / f"{name}_synthseg.nii.gz"
        write(labels, FREESURFER[subject.labels], where)
        about = subject.covariates
        rows.append(f"{name}\t{about['age']}\t{about['sex']}\thealthy")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    (folder / "dataset_description.json").write_text('{"Name": "demo", "BIDSVersion": "1.10.0"}\n')


if __name__ == "__main__":
    write_dataset(sys.argv[1], int((sys.argv[2:] or ["5"])[0]))
