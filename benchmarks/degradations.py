"""What each metric sees: known degradations of demo brains against every metric.

    python benchmarks/degradations.py

Writes docs/degradations.csv and docs/images/degradations.png (four demo subjects, seed 0).
"""

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(ROOT / "src"))

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import yaml  # noqa: E402

from realdeal.data.demo import make_subject  # noqa: E402
from realdeal.data.volumes import (  # noqa: E402
    rescale,
    save_labels,
    save_volume,
)
from realdeal.files import write_table  # noqa: E402
from realdeal.metrics.degradations import LEVELS, degrade  # noqa: E402
from realdeal.metrics.evaluate import METRICS, evaluate  # noqa: E402
from realdeal.metrics.weights import alexnet_weights  # noqa: E402

SUBJECTS = 4
SHOWN = [  # label, metric, region, dimension, k; the better direction of a distance is down
    ("LPIPS", "lpips", None, 0, None),
    ("HOG, 3x3 blocks", "hog_3x3", "brain", 0, None),
    ("HOG, 1x1 blocks", "hog_1x1", "brain", 0, None),
    ("noise KL, white matter", "noise_kl", "white-matter", None, None),
    ("sharpness", "sharpness", None, None, None),
    ("seam score", "seam", None, None, None),
    ("FID", "fid", None, 0, None),
    ("coverage (k = 10)", "coverage", None, 0, 10),
    ("density (k = 10)", "density", None, 0, 10),
    ("PSNR (dB)", "psnr", None, None, None),
    ("SSIM", "ssim", None, None, None),
    ("MS-SSIM", "ms_ssim", None, None, None),
    ("4-G-R-SSIM", "4_g_r_ssim", None, None, None),
]


def write_volumes(folder, config):
    """Originals, regions and all degraded versions; ({name: path}, regions, candidates)."""
    shape, thresholds = config["preprocessing"]["shape"], config["preprocessing"]["intensity"]
    reference, regions, candidates = {}, {}, {}
    for number in range(1, SUBJECTS + 1):
        made = make_subject(number, 0, config["data"]["demo"], shape)
        name = f"sub-{number:03d}"
        scan, truth = (
            np.where(made.labels > 0, rescale(image, *thresholds), -1).astype(np.float32)
            for image in (made.scan, made.truth)
        )
        reference[name] = folder / "original" / f"{name}.nii.gz"
        regions[name] = folder / "regions" / f"{name}.nii.gz"
        save_volume(reference[name], scan, made.affine)
        save_labels(regions[name], made.labels, made.affine)
        for kind, (_, levels, _) in LEVELS.items():
            for level in levels:
                label = f"{kind} {level}"
                path = folder / label / f"{name}.nii.gz"
                save_volume(path, np.clip(degrade(kind, level, scan, truth), -1, 1), made.affine)
                candidates.setdefault(label, {})[name] = path
    return reference, regions, candidates


def draw(table, path):
    figure, grid = plt.subplots(
        len(SHOWN), len(LEVELS), figsize=(13, 20), sharey="row", layout="constrained"
    )
    for row, (label, *key) in zip(grid, SHOWN, strict=True):
        chosen = table["metric"] == key[0]
        for column, value in zip(("region", "dim", "k"), key[1:], strict=True):
            if value is not None:
                chosen &= table[column] == value
        values = table[chosen].set_index("candidate")["value"]
        for axis, (kind, (_, levels, unit)) in zip(row, LEVELS.items(), strict=True):
            axis.plot(levels, [values[f"{kind} {level}"] for level in levels], "o-", ms=3)
            axis.set_xlim(-0.04 * levels[-1], 1.04 * levels[-1])
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
            if axis in grid[0]:
                axis.set_title(kind, fontsize=11)
            if axis in grid[-1]:
                axis.set_xlabel(unit, fontsize=9)
        row[0].set_ylabel(label, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def main():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    settings = config["evaluation"] | {"patches": 50, "bootstrap": 0}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        reference, regions, candidates = write_volumes(folder, config)
        table = evaluate(
            reference,
            candidates,
            folder / "study",
            metrics=METRICS,
            settings=settings,
            seed=0,
            weights=alexnet_weights(ROOT / "resources/weights"),
            regions=regions,
            grids={label: (config["refiner"]["stride"], (0, 0, 0)) for label in candidates},
        ).drop(columns=["ci_low", "ci_high"])
    write_table(ROOT / "docs/degradations.csv", table)
    draw(table, ROOT / "docs/images/degradations.png")


if __name__ == "__main__":
    main()
