"""Are samples new, or copies of training scans?"""

import numpy as np
from skimage.measure import block_reduce

from realdeal.data.volumes import load_volume
from realdeal.metrics.protocol import write_scores
from realdeal.progress import progress

VOXEL_SIZE = 4  # mm at which volumes are compared: a training set at 1 mm would not fit in memory


def nearest(candidates, references):
    """How much each candidate is like the training scan that it is most like: (N,), at most 1.

    candidates (N, X, Y, Z) and references (M, X, Y, Z), M > 1, on one grid, of one kind. What all
    references share says nothing: likeness is the cosine of deviations from their mean. Copies
    have about 1; new volumes have what held-out scans have.
    """
    references = np.asarray(references, np.float64).reshape(len(references), -1)
    mean = references.mean(0)

    def directions(volumes):
        away = np.asarray(volumes, np.float64).reshape(len(volumes), -1) - mean
        return away / np.linalg.norm(away, axis=1, keepdims=True).clip(1e-12)

    return (directions(candidates) @ directions(references).T).max(1)


def coarse(volume):
    """Data of a `Volume`, averaged over blocks of voxels to about `VOXEL_SIZE`."""
    sizes = np.linalg.norm(volume.affine[:3, :3], axis=0)
    blocks = tuple(max(1, int(block)) for block in np.round(VOXEL_SIZE / sizes))
    return block_reduce(volume.data, blocks, np.mean)


def score_novelty(study, groups, learnt):
    """Likeness of each volume to the nearest training scan of its group: study.scores("novelty").

    `groups` is {variant: {group: [[folder, name], ...]}}, where a folder is a variant on disk, and
    `learnt` {group: [[folder, name], ...]} the training scans. Groups with fewer than two of these
    are left out.
    """
    rows = []
    learnt = {group: names for group, names in learnt.items() if len(names) > 1}
    for group, names in progress(learnt.items(), description="novelty", unit="group"):
        references = [coarse(load_volume(study.volume(*member))) for member in names]
        for variant, members in groups.items():
            if not (members := members.get(group)):
                continue
            volumes = [coarse(load_volume(study.volume(*member))) for member in members]
            about = {"metric": "likeness", "variant": variant, "region": group}
            for (_, name), value in zip(members, nearest(volumes, references), strict=True):
                rows.append(about | {"subject": name, "value": value})
    return write_scores(study.scores("novelty"), rows)
