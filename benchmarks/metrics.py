"""Speed of the metrics against the packages that define them; prints one JSON object a line.

    python benchmarks/metrics.py [--full] [name ...]

Ours and the baseline run in turn, and their results are compared. `ratio` is baseline / ours,
`max_difference` the largest difference of the results. On one thread, and in CPU time, so that
other work on the machine does not decide; with OMP_NUM_THREADS=2 on two, in wall-clock time.
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
import tempfile
import time
import warnings
from pathlib import Path

THREADS = os.environ.get("OMP_NUM_THREADS", "1")
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ[name] = THREADS
clock = time.process_time if THREADS == "1" else time.perf_counter
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402

from realdeal.metrics import distribution, noise, texture  # noqa: E402

MACHINE = f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} thread(s)"


def in_turn(ours, baseline, repeats):
    """Median seconds and last result of both, run alternately."""
    seconds, results = ([], []), [None, None]
    for _ in range(repeats):
        for i, function in enumerate((ours, baseline)):
            start = clock()
            results[i] = function()
            seconds[i].append(clock() - start)
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
                "machine": MACHINE,
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

    (count, size), neighbours = (20_000, 2_048) if full else (4_000, 256), (5, 10, 20)
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, count, size), dtype=np.float32)

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
        f"{count} reals and fakes of {size} features, k = 5, 10, 20; peak memory of the process "
        f"{memory:.0f} MiB, with prdc {peak():.0f} MiB; prdc runs once for each k, in "
        "8 threads, and also gives precision and recall"
    )
    report("coverage_density", "prdc", seconds, baseline, np.abs(a - b).max(), note)


def template_brain(full):
    """Template brain in [-1, 1] with planted noise and its labels; full: 224 x 288 x 224, .7 mm."""
    from nilearn.datasets import (
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )
    from scipy.ndimage import zoom

    from realdeal.data.volumes import fit_to_shape

    brain, white, grey = (
        load(resolution=1).get_fdata()
        for load in (load_mni152_template, load_mni152_wm_template, load_mni152_gm_template)
    )
    labels = np.zeros(brain.shape, np.uint8)
    labels[brain > 0] = 5
    labels[grey > 0.5] = 2
    labels[white > 0.5] = 1
    middle = tuple(slice(n // 2 - 12, n // 2 + 12) for n in brain.shape)
    labels[middle][brain[middle] < 0.5 * np.median(brain[labels == 1])] = 3
    if full:
        brain, labels = zoom(brain, 1 / 0.7, order=1), zoom(labels, 1 / 0.7, order=0)
        shape = (224, 288, 224)
        brain, labels = (fit_to_shape(v, np.eye(4), shape, 0).data for v in (brain, labels))
    else:
        brain, labels = brain[..., 60:110], labels[..., 60:110]
    brain = 1.6 * brain / brain.max()
    parts = 0.035 * np.random.default_rng(0).standard_normal((2, *brain.shape))
    magnitude = np.where(labels > 0, np.hypot(brain + parts[0], parts[1]), 0)
    return (magnitude - 1).clip(-1, 1).astype(np.float32), labels


def noise_extraction(full):
    import ants

    volume, labels = template_brain(full)
    white = labels == 1
    for model in noise.MODELS:

        def whole(model=model):
            image = ants.from_numpy((volume + 1) * noise.UNITS)
            denoised = ants.denoise_image(image, shrink_factor=1, p=1, r=2, noise_model=model)
            return volume + 1 - denoised.numpy() / noise.UNITS

        seconds, baseline, a, b = in_turn(
            lambda model=model: noise.noise_residual(volume, white, model), whole, 1 if full else 2
        )
        note = f"template of {volume.shape} voxels with planted noise, {model} model, white matter"
        difference = np.abs(a - b)[white].max()
        name = f"noise_extraction, {model}"
        report(name, "ANTs on the whole volume", seconds, baseline, difference, note)


def frechet(full):
    from realdeal.metrics.weights import import_torchvision

    import_torchvision()
    from pytorch_fid.fid_score import calculate_frechet_distance

    size, count = (2048, 20_000) if full else (512, 5_000)
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((size, size)) / np.sqrt(size)
    first, second = (
        (rng.standard_normal((count, size)) @ mixing + shift).astype(np.float32)
        for shift in (0, 0.1)
    )

    def theirs():  # as pytorch_fid.fid_score.calculate_activation_statistics
        wide = [features.astype(np.float64) for features in (first, second)]
        moments = [(f.mean(axis=0), np.cov(f, rowvar=False)) for f in wide]
        return calculate_frechet_distance(*moments[0], *moments[1])

    seconds, baseline, a, b = in_turn(
        lambda: distribution.frechet_distance(first, second), theirs, 1 if full else 3
    )
    note = f"{count} x {size} features, moments included; the distance is {a:.6f}"
    report("frechet", "pytorch-fid (scipy sqrtm)", seconds, baseline, abs(a - b), note)


def tables(full):
    """What Tables 1-6 cost: one subject is measured and counted, pooled scores run on all."""
    from scipy.ndimage import gaussian_filter

    from realdeal.data.volumes import save_labels, save_volume
    from realdeal.metrics import protocol
    from realdeal.metrics.weights import alexnet_weights
    from realdeal.study import Study

    subjects, others, paired = 20, 20, ["recon", "recon-refined"]
    settings = {
        "patch_size": 64 if full else 32,
        "patches": 1000 if full else 50,
        "bootstrap": 1000 if full else 50,
        "hog": {"orientations": 9, "pixels_per_cell": 8},
        "noise": {"model": "Rician", "bins": 64, "range": [-0.15, 0.15], "pseudocount": 1.0},
        "sharpness": {"sigma": 0.5},
        "distribution": {"features": "alexnet", "neighbours": [5, 10, 20]},
    }
    weights = alexnet_weights(ROOT / "resources/weights")
    seconds = {}

    def measure(step, volumes, function):
        start = time.process_time()
        function()
        seconds[step] = round((time.process_time() - start) * volumes, 1)

    with tempfile.TemporaryDirectory() as folder:
        study = Study(folder)
        volume, labels = template_brain(full)
        smooth = gaussian_filter(volume, 1)
        noisy = smooth + 0.03 * np.random.default_rng(1).standard_normal(volume.shape)
        for variant, data in (("original", volume), ("recon", smooth), ("recon-refined", noisy)):
            data = np.where(labels > 0, data.clip(-1, 1), -1)
            save_volume(study.volume(variant, "one"), data, np.eye(4))
        save_labels(study.regions("one"), labels, np.eye(4))
        every = ["original", *paired]
        one = (["one"], settings)
        for step, volumes, function in (
            (
                "draw patches",
                2 * subjects + others,
                lambda: protocol.draw_patches(study, ["one"], [], settings, 0),
            ),
            ("LPIPS", subjects, lambda: protocol.score_lpips(study, paired, *one, weights)),
            ("HOG", subjects, lambda: protocol.score_hog(study, paired, *one)),
            ("sharpness", subjects, lambda: protocol.score_sharpness(study, every, *one)),
            ("seams", subjects, lambda: protocol.score_seam(study, every, one[0], 32)),
            (
                "noise",
                subjects,
                lambda: [protocol.extract_noise(study, v, *one) for v in every],
            ),
            (
                "features",
                3 * subjects + others,
                lambda: protocol.extract_features(study, "original", *one, weights),
            ),
        ):
            measure(step, volumes, function)
        rng = np.random.default_rng(0)
        for name in ("original", "original-others", "synthetic", "synthetic-refined"):
            shape = (subjects, settings["patches"], 256)
            features = {f"dim{d}": rng.standard_normal(shape, dtype=np.float32) for d in range(3)}
            names = np.array([f"{name}{i}" for i in range(subjects)])
            np.savez(study.features(name), **features, subjects=names, extractor="alexnet")
        measure(
            "FID, coverage, density",
            1,
            lambda: protocol.score_distribution(
                study, ["synthetic", "synthetic-refined"], settings, 0
            ),
        )
    print(
        json.dumps(
            {
                "name": "tables",
                "cpu_minutes": round(sum(seconds.values()) / 60, 1),
                "cpu_seconds": seconds,
                "peak_MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "machine": MACHINE,
                "note": f"{subjects} subjects of {volume.shape} voxels, {settings['patches']} "
                f"patches per dimension, {settings['bootstrap']} resamples; steps that go volume "
                "by volume: one volume measured, multiplied",
            }
        ),
        flush=True,
    )


BENCHMARKS = {f.__name__: f for f in (hog, coverage_density, noise_extraction, frechet, tables)}

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
