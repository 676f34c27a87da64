"""FID of each cell, pathology x modality, from the features of all (arXiv 2502.18620)."""

import warnings

import numpy as np

from realdeal.errors import InputError
from realdeal.metrics.distribution import frechet_distance
from realdeal.metrics.protocol import DIMENSIONS, read_features, write_scores
from realdeal.progress import progress


def score_cells(study, candidates, groups, seed):
    """FID of every cell of every candidate against all real scans of the cell.

    `groups` maps `original` and the candidates to {cell: [[folder, name], ...]}. The real scans of
    a cell against each other, half against half, are the candidate `original`; the column subject
    of a row holds the number of volumes. A cell with a single volume on either side has no row.
    """
    files = {name: read_features(study, name) for name in ["original-cells", *candidates]}
    kinds = {str(arrays["extractor"]) for arrays in files.values()}
    if len(kinds) > 1:
        raise InputError(f"{study.features('original-cells')}: features of {' and '.join(kinds)}")

    def pick(name, members, dim):
        place = {subject: i for i, subject in enumerate(files[name]["subjects"])}
        chosen = files[name][f"dim{dim}"][[place[member] for member in members]]
        return chosen.reshape(-1, chosen.shape[-1])

    cells = {
        variant: {cell: [name for _, name in pairs] for cell, pairs in group.items()}
        for variant, group in groups.items()
    }
    rows = []
    rng = np.random.default_rng(seed)
    for cell, real in progress(cells["original"].items(), description="cells", unit="cell"):
        order = rng.permutation(real)
        sides = {"original": ("original-cells", order[::2], order[1::2])}
        for name in candidates:
            members = cells[name].get(cell, [])
            sides[name] = (name, members, real)
        for variant, (name, members, against) in sides.items():
            if min(len(members), len(against)) < 2:
                continue
            for dim in DIMENSIONS:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # few patches: the table says how many
                    value = frechet_distance(
                        pick(name, members, dim), pick("original-cells", against, dim)
                    )
                rows.append(
                    {
                        "metric": "fid",
                        "variant": variant,
                        "region": cell,
                        "dim": dim,
                        "subject": str(len(members)),
                        "value": value,
                    }
                )
    return write_scores(study.scores("cells"), rows)
