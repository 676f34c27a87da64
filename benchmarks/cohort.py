"""What the demo cohort holds: its volumes by age and sex, and whether its cells can be told apart.

    python benchmarks/cohort.py

Prints one JSON object a line, the numbers of docs/demo-cohort.md (voxels of 4 mm, seed 0).
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
from scipy import ndimage  # noqa: E402
from sklearn.ensemble import ExtraTreesClassifier  # noqa: E402
from sklearn.model_selection import cross_val_predict  # noqa: E402

from realdeal.data.cells import list_cells  # noqa: E402
from realdeal.data.contrasts import CONTRASTS  # noqa: E402
from realdeal.data.demo import AGES, make_subject  # noqa: E402
from realdeal.progress import progress  # noqa: E402

SHAPE = [40, 50, 40]
SETTINGS = {"voxel_size": 4.0, "white_matter_snr": [20, 28], "ageing": "weak"}
HEALTHY = 50  # subjects for the volumes
EACH = 10  # subjects of each cell


def volumes(ageing):
    """Ventricular and brain volume of healthy subjects: spread, and dependence on age and sex."""
    rows = []
    for number in progress(range(1, HEALTHY + 1), description=f"ageing {ageing}", unit="subject"):
        about = make_subject(number, 0, SETTINGS | {"ageing": ageing}, SHAPE).covariates
        volume = [about[f"{name}_volume"] / 1000 for name in ("ventricular", "brain")]
        rows.append([about["age"], about["sex"] == "M", *volume])
    age, male, *measured = np.array(rows, float).T
    for name, millilitres in zip(("ventricular", "brain"), measured, strict=True):
        design = np.stack([np.ones_like(age), age, male], 1)
        (_, per_year, of_men), *_ = np.linalg.lstsq(design, millilitres, rcond=None)
        yield {
            "name": f"{name} volume (ml), ageing {ageing}",
            "subjects": HEALTHY,
            "smallest": millilitres.min(),
            "median": np.median(millilitres),
            "largest": millilitres.max(),
            "correlation with age": np.corrcoef(age, millilitres)[0, 1],
            "per year": per_year,
            "men - women": of_men,
        }


def features(scan):
    """Histograms of a scan: its middle, the rest, dark and bright spots, asymmetry."""
    x, y, z = (np.arange(size) - (size - 1) / 2 for size in scan.shape)
    distance = SETTINGS["voxel_size"] * np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)
    brain, middle = scan > 0, distance < 40  # mm
    parts = (
        scan[brain & middle],
        scan[brain & ~middle],
        (ndimage.grey_closing(scan, 3) - scan)[brain & middle],
        (scan - ndimage.grey_opening(scan, 3))[brain & middle],
        np.abs(scan - scan[::-1])[brain & brain[::-1]],
    )
    return np.concatenate([np.histogram(part, 30, (0, 1.2))[0] / brain.sum() for part in parts])


def told_apart():
    """Accuracy of a classifier of all cells that sees histograms only, by cross-validation."""
    cells = list_cells({"pathologies": list(AGES), "modalities": list(CONTRASTS)})
    wanted = [cell for cell in cells for _ in range(EACH)]
    inputs = [
        features(make_subject(number, 0, SETTINGS, SHAPE, cell).scan)
        for number, cell in progress(
            list(enumerate(wanted, 1)), description="cells", unit="subject"
        )
    ]
    names = np.array(["/".join(cell) for cell in wanted])
    classifier = ExtraTreesClassifier(500, random_state=0)
    right = cross_val_predict(classifier, np.array(inputs), names, cv=5) == names
    yield {"name": "cells told apart", "subjects": len(names), "chance": 1 / len(cells)} | {
        "accuracy": right.mean(),
        "worst": {
            cell: right[names == cell].mean()
            for cell in np.unique(names)
            if right[names == cell].mean() < 0.8
        },
    }


def main():
    for results in (volumes("weak"), volumes("full"), told_apart()):
        for result in results:
            rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}
            print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
