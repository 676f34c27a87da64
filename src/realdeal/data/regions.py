"""The five regions in which the scores are computed, and where they come from."""

import numpy as np

from realdeal.errors import InputError

BACKGROUND, WHITE_MATTER, GREY_MATTER, VENTRICLES, CEREBELLUM, OTHER = range(6)

NAMES = {
    WHITE_MATTER: "white-matter",
    GREY_MATTER: "grey-matter",
    VENTRICLES: "ventricles",
    CEREBELLUM: "cerebellum",
    OTHER: "other",
}

# Labels of FreeSurfer's aparc+aseg; whatever else it labels is OTHER.
FREESURFER = {
    WHITE_MATTER: (2, 41, 77, *range(251, 256)),  # with hypointensities and corpus callosum
    GREY_MATTER: (3, 42, *range(1000, 3000)),  # cerebral cortex
    VENTRICLES: (4, 5, 43, 44),  # lateral and inferior lateral, both sides
    CEREBELLUM: (7, 8, 46, 47),  # white matter and cortex, both sides
}


def from_freesurfer(labels, name="labels"):
    """Map FreeSurfer aparc+aseg labels (X, Y, Z) to region codes, uint8 (X, Y, Z).

    InputError, naming the file `name`, if a region is empty: every score needs its region.
    """
    labels = np.asarray(labels)
    table = np.full(max(int(labels.max(initial=0)) + 1, 3000), OTHER, np.uint8)
    table[BACKGROUND] = BACKGROUND
    for region, codes in FREESURFER.items():
        table[list(codes)] = region
    return check_regions(table[labels], name)


def check_regions(regions, name="labels"):
    """Return `regions` if they hold all codes that the scores need; InputError otherwise."""
    counts = np.bincount(regions.ravel(), minlength=len(NAMES) + 1)
    if len(counts) > len(NAMES) + 1:
        raise InputError(f"{name}: holds region {len(counts) - 1}; regions run from 0 to 5")
    empty = [NAMES[region] for region in FREESURFER if counts[region] == 0]
    if empty:
        raise InputError(
            f"{name}: no voxel of {', '.join(empty)}; give a complete FreeSurfer aparc+aseg, "
            "or a preprocessing.shape that covers the brain"
        )
    return regions


def volumes(regions, affine):
    """Ventricular and brain volume in mm^3, as the columns of the participants table.

    The brain is everything labelled but the lateral ventricles.
    """
    voxel = abs(np.linalg.det(affine[:3, :3]))
    ventricles = np.count_nonzero(regions == VENTRICLES)
    brain = np.count_nonzero(regions) - ventricles
    return {
        "ventricular_volume": round(float(ventricles * voxel), 3),
        "brain_volume": round(float(brain * voxel), 3),
    }
