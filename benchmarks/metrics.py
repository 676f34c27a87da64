"""Speed of the metrics against the packages that define them; prints one JSON object a line.

    python benchmarks/metrics.py [--full] [name ...]

Ours and the baseline run in turn, and their results are compared. `ratio` is baseline / ours,
`max_difference` the largest difference of the results.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path

# One thread each: ratios then do not depend on how well a library shares the cores.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np  # noqa: E402

from realdeal.metrics import distribution, noise, texture  # noqa: E402


def in_turn(ours, baseline, repeats):
    """Median seconds and last result of both, run alternately."""
    seconds, results = ([], []), [None, None]
    for _ in range(repeats):
        for i, function in enumerate((ours, baseline)):
            start = time.perf_counter()
            results[i] = function()
            seconds[i].append(time.perf_counter() - start)
    return *map(statistics.median, seconds), *results


def report(name, baseline, seconds, baseline_seconds, difference, note, per=1, unit="s"):
    print(
        json.dumps(
            {
                "name": name,
                "baseline": baseline,
                "baseline_value": baseline_seconds / per,
                "value": seconds / per,
                "unit": unit,
                "ratio": baseline_seconds / seconds,
                "max_difference": float(difference),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
                "note": note,
            }
        ),
        flush=True,
    )


def hog(full):
    from skimage.feature import hog as reference

    count = 20_000 if full else 1_000
    patches = np.random.default_rng(0).uniform(-1, 1, (count, 64, 64)).astype(np.float32)
    ours, theirs, a, b = in_turn(
        lambda: texture.hog(patches),
        lambda: np.stack(
            [
                reference(p, 9, (8, 8), (3, 3), block_norm="L2-Hys", feature_vector=False)
                for p in patches
            ]
        ),
        1 if full else 3,
    )
    note = f"{count} patches of 64x64, 9 orientations, 8x8 pixels a cell, 3x3 cells a block"
    report("hog", "scikit-image", ours, theirs, np.abs(a - b).max(), note, count / 1000, "ms")


def coverage_density(full):
    from prdc import compute_prdc

    count, neighbours = 20_000 if full else 4_000, (5, 10, 20)
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, count, 256)).astype(np.float32)

    def ours():
        found = distribution.neighbourhood(real, fake, neighbours)
        return np.array([found.coverage(), found.density()])

    def theirs():
        with contextlib.redirect_stdout(io.StringIO()):
            scores = [compute_prdc(real, fake, k) for k in neighbours]
        return np.array([[s[name] for s in scores] for name in ("coverage", "density")])

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    ours()
    memory = peak()
    seconds, baseline, a, b = in_turn(ours, theirs, 1 if full else 2)
    note = (
        f"{count} reals and fakes of 256 features, k = 5, 10, 20; peak memory of the process "
        f"{memory:.0f} MiB, with prdc {peak():.0f} MiB; prdc runs once for each k, in "
        "8 threads, and also gives precision and recall"
    )
    report("coverage_density", "prdc", seconds, baseline, np.abs(a - b).max(), note)


def noise_extraction(full):
    import ants
    from nilearn.datasets import load_mni152_template, load_mni152_wm_template

    slab = slice(None) if full else slice(60, 110)  # axial slices of 1 mm
    template = load_mni152_template(resolution=1).get_fdata()[..., slab]
    white = load_mni152_wm_template(resolution=1).get_fdata()[..., slab] > 0.7
    template = 1.6 * template / template.max()
    parts = 0.035 * np.random.default_rng(0).standard_normal((2, *template.shape))
    magnitude = np.where(template > 0.05, np.hypot(template + parts[0], parts[1]), 0)
    volume = (magnitude - 1).clip(-1, 1).astype(np.float32)

    def whole():
        image = ants.from_numpy((volume + 1) * noise.UNITS)
        denoised = ants.denoise_image(image, shrink_factor=1, p=1, r=2, noise_model="Rician")
        return volume + 1 - denoised.numpy() / noise.UNITS

    seconds, baseline, a, b = in_turn(
        lambda: noise.noise_residual(volume, white, "Rician"), whole, 1 if full else 2
    )
    note = f"template of {volume.shape} voxels with planted noise, Rician model, white matter"
    difference = np.abs(a - b)[white].max()
    report("noise_extraction", "ANTs on the whole volume", seconds, baseline, difference, note)


def frechet(full):
    from realdeal.metrics.weights import import_torchvision

    import_torchvision()
    from pytorch_fid.fid_score import calculate_frechet_distance

    size = 2048 if full else 512
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((size, size)) / np.sqrt(size)
    first, second = (
        distribution.gaussian(rng.standard_normal((3 * size, size)) @ mixing + shift)
        for shift in (0, 0.1)
    )
    seconds, baseline, a, b = in_turn(
        lambda: distribution.frechet_distance(first, second),
        lambda: calculate_frechet_distance(
            first.mean, first.covariance, second.mean, second.covariance
        ),
        1 if full else 3,
    )
    note = f"{size} features, means and covariances given; the distance is {a:.4f}"
    report("frechet", "pytorch-fid", seconds, baseline, abs(a - b), note)


BENCHMARKS = {f.__name__: f for f in (hog, coverage_density, noise_extraction, frechet)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--full", action="store_true", help="at the size of the paper")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore")
    for name in arguments.names or BENCHMARKS:
        BENCHMARKS[name](arguments.full)
