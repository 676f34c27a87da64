"""A scan's place in the space of the template: a rigid registration that finds its start."""

from itertools import product

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from realdeal.data.atlas import atlas
from realdeal.data.volumes import Volume
from realdeal.files import atomic_path

COARSE = 4.0  # mm, of the search
# Rotations from which the search begins, degrees about the axes to the right, front and top:
# heads are nodded more than they are tilted or turned.
STARTS = [(0, 0, 0)] + [
    tuple(degrees * (axis == turned) for axis in range(3))
    for turned in range(3)
    for degrees in (-30, 30)
]
RIM = 8.0  # mm around the template's brain in which the registration also looks
BINS = 32


def align(engine, scan, spacing, shape, with_skull):
    """Register a scan rigidly to the template on the grid of `atlas(spacing, shape)`.

    engine: of realdeal.data.registration; scan: a `Volume`; with_skull: whether it shows a whole
    head, whose centre is not that of its brain. The registration is begun from several
    rotations (for a head also from higher up), coarsely; the one with the greatest mutual
    information is completed. Returns the prefix of its files.
    """
    extent = tuple(int(np.ceil(size * spacing / COARSE)) for size in shape)
    coarse, small = atlas(COARSE, extent), coarsen(scan)
    fixed, mask = coarse.volume("t1w"), rim(coarse.brain, COARSE)
    best, start = -np.inf, None
    # The neck draws the centre of a head below that of its brain.
    raises = (0.0, 40.0) if with_skull else (0.0,)
    for number, (rotation, height) in enumerate(product(STARTS, raises)):
        path = engine.folder / f"start{number}.txt"
        write_transform(path, _pose(fixed, small, rotation, height))
        prefix = engine.align("search", fixed, small, mask, f"search{number}", path)
        moved = engine.resample(small, fixed, prefix, "linear")
        information = mutual_information(fixed.data[mask], moved.data[mask])
        if information > best:
            best, start = information, f"{prefix}0GenericAffine.mat"
    fine = atlas(spacing, tuple(shape))
    return engine.align("rigid", fine.volume("t1w"), scan, rim(fine.brain, spacing), "rigid", start)


def rim(brain, spacing):
    """Mask of a brain's map (X, Y, Z) with what lies around it."""
    return ndimage.distance_transform_edt(brain < 0.5, sampling=spacing) <= RIM


def coarsen(volume):
    """The mean of blocks of voxels of about `COARSE` mm."""
    factors = np.maximum(1, np.floor(COARSE / volume.spacing + 0.01).astype(int))
    counts = np.array(volume.data.shape) // factors
    cut = volume.data[tuple(map(slice, counts * factors))]
    blocks = cut.reshape(*np.stack([counts, factors], 1).ravel())
    affine = volume.affine @ np.diag([*factors, 1.0])
    affine[:3, 3] += volume.affine[:3, :3] @ ((factors - 1) / 2)
    return Volume(blocks.mean(axis=(1, 3, 5), dtype=np.float32), affine)


def mutual_information(one, other):
    """Mutual information in nats of two arrays of paired intensities."""
    joint = np.histogram2d(one, other, BINS)[0] / one.size
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())


def write_transform(path, matrix):
    """Write a map (4, 4) of world points (RAS+, mm) as a text file of ITK, which has LPS+."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ matrix @ flip
    numbers = " ".join(f"{number:.10g}" for number in (*matrix[:3, :3].ravel(), *matrix[:3, 3]))
    with atomic_path(path) as temporary:
        temporary.write_text(
            "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
            f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
        )


def _pose(fixed, moving, rotation, height):
    """The map of world points (4, 4) that turns the fixed volume and puts it on the moving one.

    The centres of intensity meet, the moving one's raised by `height` mm.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rotation, degrees=True).as_matrix()
    centre = _centre(moving) + [0, 0, height]
    matrix[:3, 3] = centre - matrix[:3, :3] @ _centre(fixed)
    return matrix


def _centre(volume):
    centre = ndimage.center_of_mass(np.clip(volume.data, 0, None))
    return volume.affine[:3, :3] @ centre + volume.affine[:3, 3]
