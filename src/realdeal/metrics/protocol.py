"""The measurements of the paper, applied to the files of a study.

Each function writes its file whole and returns the table it wrote (or the arrays). Score tables
have the columns of `COLUMNS`; where a table has bootstrap draws, draw 0 is the estimate on all
subjects and every draw takes the same subjects for all variants.
"""

import hashlib
from contextlib import contextmanager

import numpy as np
import pandas as pd

from realdeal.data.volumes import load_labels, load_volume
from realdeal.device import choose_device
from realdeal.errors import InputError
from realdeal.files import atomic_path, write_table
from realdeal.metrics import distribution, noise, patches, texture
from realdeal.metrics.seam import seam_score
from realdeal.metrics.sharpness import sharpness
from realdeal.progress import progress

COLUMNS = ["metric", "region", "dim", "k", "variant", "subject", "draw", "value"]
DIMENSIONS = (0, 1, 2)
FOREGROUND = -0.9  # of volumes in [-1, 1] without a region file
CEREBELLUM = 4
NOISE_REGIONS = {"white-matter": 1, "ventricles": 3}
REFERENCE, OTHERS = "original", "original-others"  # features of evaluated and of other originals


def draw_patches(study, subjects, synthetic, settings, seed):
    """Draw the patch locations of each subject (`study.patches`); paper: 1,000 of 64 voxels.

    Locations are centred in the regions of `subjects` and in the foreground of the volumes of
    `synthetic`. They depend on the seed and the subject's name alone.
    """
    for subject in progress([*subjects, *synthetic], description="draw patches", unit="subject"):
        real = subject in set(subjects)
        path = study.regions(subject) if real else study.volume("synthetic", subject)
        mask = load_labels(path).data > 0 if real else load_volume(path).data > FOREGROUND
        name = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "little")
        rng = np.random.default_rng([seed, name])
        with _about(path):
            drawn = patches.draw_patches(mask, settings["patch_size"], settings["patches"], rng)
        _write_arrays(study.patches(subject), **drawn)


def extract_features(study, variant, subjects, settings, weights, name=None, device=None):
    """Features of all 2-D patches of a variant: `study.features(name)`, by default the variant.

    The file holds dim0, dim1, dim2 (subjects, patches, features) float32, the subjects and the
    name of the extractor. `weights` is the AlexNet file.
    """
    from realdeal.metrics.features import load_extractor, patch_features  # torch: seconds

    device = device or choose_device()
    kind = settings["distribution"]["features"]
    extractor = load_extractor(kind, weights, device)
    found = {dim: [] for dim in DIMENSIONS}
    for subject in progress(subjects, description=f"features of {variant}", unit="subject"):
        path = study.volume(variant, subject)
        volume, located = load_volume(path).data, _locations(study, subject)
        with _about(path):
            for dim in DIMENSIONS:
                cut = _cut(volume, located, dim)
                found[dim].append(patch_features(extractor, cut, device))
    arrays = {f"dim{dim}": np.stack(features) for dim, features in found.items()}
    _write_arrays(
        study.features(name or variant), **arrays, subjects=np.array(subjects), extractor=kind
    )
    return arrays


def extract_noise(study, variant, subjects, settings):
    """Histograms of the noise of a variant in the originals' regions: `study.noise(variant)`.

    The file holds counts (subjects, regions, bins), edges (bins + 1,), sigma (subjects, regions)
    the standard deviation of the residual, the subjects, the regions' names and the noise model.
    """
    options = settings["noise"]
    counts, sigma = [], []
    for subject in progress(subjects, description=f"noise of {variant}", unit="subject"):
        path = study.volume(variant, subject)
        volume, labels = load_volume(path).data, load_labels(study.regions(subject)).data
        masks = {region: labels == label for region, label in NOISE_REGIONS.items()}
        for region, mask in masks.items():
            if not mask.any():
                raise InputError(
                    f"{study.regions(subject)}: no {region}; mend the labels or leave out the scan"
                )
        with _about(path):
            residual = noise.noise_residual(
                volume, np.any(list(masks.values()), axis=0), options["model"]
            )
        values = [residual[mask] for mask in masks.values()]
        counts.append([noise.histogram(v, options["bins"], options["range"]) for v in values])
        sigma.append([v.std(dtype=np.float64) for v in values])
    arrays = {
        "counts": np.array(counts),
        "edges": np.linspace(*options["range"], options["bins"] + 1),
        "sigma": np.array(sigma),
    }
    _write_arrays(
        study.noise(variant),
        **arrays,
        subjects=np.array(subjects),
        regions=np.array(list(NOISE_REGIONS)),
        model=options["model"],
    )
    return arrays


def score_lpips(study, variants, subjects, settings, weights, device=None):
    """LPIPS to the original, mean over each subject's patches per dimension (paper, Table 1)."""
    from realdeal.metrics.perceptual import load_lpips, lpips_distance  # torch: seconds

    model = load_lpips(weights, device or choose_device())
    rows = []
    for subject, located, original, volumes in _pairs(study, variants, subjects, "LPIPS"):
        for dim in DIMENSIONS:
            reference = _cut(original, located, dim)
            for variant, volume in volumes.items():
                with _about(study.volume(variant, subject)):
                    distances = lpips_distance(model, reference, _cut(volume, located, dim))
                rows.append(_row("lpips", variant, distances.mean(), dim=dim, subject=subject))
    return write_scores(study.scores("lpips"), rows)


def score_hog(study, variants, subjects, settings):
    """Distance of HOG descriptors to the original, brain and cerebellum (paper, Table 1).

    Blocks of 3x3 cells and of 1x1. The mean is over the patches with a block in the region; a
    subject without one in a dimension has no row there.
    """
    options = settings["hog"]
    cell, orientations = options["pixels_per_cell"], options["orientations"]
    rows = []
    for subject, located, original, volumes in _pairs(study, variants, subjects, "HOG"):
        labels = load_labels(study.regions(subject)).data
        regions = {"brain": labels > 0, "cerebellum": labels == CEREBELLUM}
        for dim in DIMENSIONS:
            masks = {region: _cut(mask, located, dim) for region, mask in regions.items()}
            cut = {None: original, **volumes}
            histograms = {}
            for variant, volume in cut.items():
                with _about(study.volume(variant or "original", subject)):
                    histograms[variant] = texture.cell_histograms(
                        _cut(volume, located, dim), orientations, cell
                    )
            for size in (3, 1):
                blocks = {v: texture.blocks(h, size) for v, h in histograms.items()}
                for region, mask in masks.items():
                    inside = texture.blocks_inside(mask, cell, size)
                    if not inside.any():
                        continue
                    for variant in volumes:
                        distances = texture.hog_distance(blocks[None], blocks[variant], inside)
                        rows.append(
                            _row(
                                f"hog_{size}x{size}",
                                variant,
                                distances.mean(),
                                region=region,
                                dim=dim,
                                subject=subject,
                            )
                        )
    return write_scores(study.scores("hog"), rows)


def score_sharpness(study, variants, subjects, settings):
    """Variance of the Laplacian in the 3-D patches of each subject (paper, Table 2)."""
    rows = []
    for subject in progress(subjects, description="sharpness", unit="subject"):
        located = _locations(study, subject)
        for variant in variants:
            path = study.volume(variant, subject)
            with _about(path):
                value = sharpness(
                    load_volume(path).data,
                    located["volume"],
                    located["size"],
                    settings["sharpness"]["sigma"],
                )
            rows.append(_row("sharpness", variant, value, subject=subject))
    return write_scores(study.scores("sharpness"), rows)


def score_seam(study, variants, subjects, spacing, offsets=(0, 0, 0)):
    """Jump across the planes of the refiner's patch grid, mean over the axes (1: no seam).

    `spacing` and `offsets` in voxels, see `realdeal.metrics.seam.seam_score`.
    """
    rows = []
    for subject in progress(subjects, description="seams", unit="subject"):
        brain = load_labels(study.regions(subject)).data > 0
        for variant in variants:
            path = study.volume(variant, subject)
            with _about(path):
                value = np.nanmean(seam_score(load_volume(path).data, brain, spacing, offsets))
            rows.append(_row("seam", variant, value, region="brain", subject=subject))
    return write_scores(study.scores("seam"), rows)


def score_noise(study, variants, subjects, settings, seed):
    """KL(original || variant) of the noise, histograms pooled over subjects (paper, Table 1, 4)."""
    files = {variant: _read_arrays(study.noise(variant)) for variant in ["original", *variants]}
    reference = files["original"]
    for variant, arrays in files.items():
        for key in ("subjects", "edges", "regions", "model"):
            if not np.array_equal(arrays[key], reference[key]):
                raise InputError(
                    f"{study.noise(variant)}: other {key} than the originals; extract it again"
                )
        if sorted(arrays["subjects"]) != sorted(subjects):
            raise InputError(f"{study.noise(variant)}: holds other subjects; extract it again")
    weights = _resamples(len(subjects), settings["bootstrap"], seed)
    rows = []
    for i, region in enumerate(reference["regions"]):
        pooled = {v: weights @ arrays["counts"][:, i] for v, arrays in files.items()}
        for variant in variants:
            values = noise.kl_divergence(
                pooled["original"], pooled[variant], settings["noise"]["pseudocount"]
            )
            rows += _draws("noise_kl", variant, values, region=str(region))
    return write_scores(study.scores("noise"), rows)


def score_distribution(study, candidates, settings, seed, others=True):
    """FID, coverage and density of `candidates` against the originals (paper, Tables 3, 5, 6).

    All patches of all subjects are pooled, per dimension. With `others`, the originals that are
    not evaluated stand as candidate `original`. Draws resample the subjects of both sides.
    """
    reference = _read_arrays(study.features(REFERENCE))
    sources = {v: study.features(v) for v in candidates}
    if others:
        sources["original"] = study.features(OTHERS)
    files = {variant: _read_arrays(path) for variant, path in sources.items()}
    for variant, arrays in files.items():
        if arrays["extractor"] != reference["extractor"]:
            raise InputError(
                f"{sources[variant]}: features of {arrays['extractor']}, the originals' of "
                f"{reference['extractor']}; extract them again with one of the two"
            )
    shared = others and sorted(set(reference["subjects"]) & set(files["original"]["subjects"]))
    if shared:
        raise InputError(
            f"{sources['original']}: {shared[0]} is among the evaluated subjects too; give others"
        )
    draws = settings["bootstrap"]
    taken = _resamples(len(reference["subjects"]), draws, seed)
    given = {
        variant: _resamples(len(arrays["subjects"]), draws, [seed, 1])
        for variant, arrays in files.items()
    }
    rows = []
    for dim in DIMENSIONS:
        real = reference[f"dim{dim}"]
        fakes = {variant: arrays[f"dim{dim}"] for variant, arrays in files.items()}
        for variant, values in _frechet_draws(real, fakes, taken, given, dim).items():
            rows += _draws("fid", variant, values, dim=dim)
        for variant, fake in fakes.items():
            found = distribution.neighbourhood(
                real.reshape(-1, real.shape[-1]),
                fake.reshape(-1, fake.shape[-1]),
                settings["distribution"]["neighbours"],
                groups=np.repeat(np.arange(len(fake)), fake.shape[1]),
            )
            scores = distribution.resample_neighbourhood(
                found, np.repeat(np.arange(len(real)), real.shape[1]), taken, given[variant]
            )
            for metric, values in zip(("coverage", "density"), scores, strict=True):
                for i, k in enumerate(found.neighbours):
                    rows += _draws(metric, variant, values[:, i], dim=dim, k=k)
    return write_scores(study.scores("distribution"), rows)


def _frechet_draws(real, fakes, taken, given, dim):
    """FID of every draw (draw 0: all subjects), by variant."""
    reference = distribution.SubjectSums(real)
    sums = {variant: distribution.SubjectSums(fake) for variant, fake in fakes.items()}
    values = {variant: np.empty(len(taken)) for variant in fakes}
    for draw in progress(range(len(taken)), description=f"FID, dimension {dim}", unit="draw"):
        target = reference.gaussian(taken[draw])
        factor = distribution.factor(target.covariance)  # shared by the variants
        for variant in fakes:
            candidate = sums[variant].gaussian(given[variant][draw])
            if draw == 0:  # warns of too few patches
                values[variant][draw] = distribution.frechet_distance(target, candidate)
            else:
                values[variant][draw] = distribution.distance_to_factor(target, factor, candidate)
    return values


def _resamples(subjects, draws, seed):
    """How often each draw takes each subject, (1 + draws, subjects); first all of them once."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=draws)
    return np.concatenate([np.ones((1, subjects), dtype=drawn.dtype), drawn])


def _draws(metric, variant, values, **keys):
    """Rows of a pooled metric: the estimate and its bootstrap draws, corrected for their bias.

    A resample holds some subjects twice and others not at all, so it covers less, and differs
    more, than the whole: every draw of FID or divergence is too high and of coverage too low.
    The draws are shifted to have the estimate as mean, and kept in the range of the metric.
    """
    if len(values) > 1:
        highest = 1.0 if metric == "coverage" else None
        shifted = np.clip(values[1:] - values[1:].mean() + values[0], 0.0, highest)
        values = np.concatenate([values[:1], shifted])
    return [_row(metric, variant, value, draw=i, **keys) for i, value in enumerate(values)]


def _row(metric, variant, value, **keys):
    return {"metric": metric, "variant": variant, "value": float(value), **keys}


def write_scores(path, rows):
    """Write rows as a score table (columns `COLUMNS`); InputError if a value is not finite."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    if table.empty or not np.isfinite(table["value"]).all():
        raise InputError(f"{path}: no finite score; check the volumes and regions")
    table = table.astype({"dim": "Int64", "k": "Int64", "draw": "Int64"})
    write_table(path, table)
    return table


def _pairs(study, variants, subjects, description):
    """Each subject with its patch locations, its original and its variants."""
    for subject in progress(subjects, description=description, unit="subject"):
        original = load_volume(study.volume("original", subject)).data
        volumes = {}
        for variant in variants:
            path = study.volume(variant, subject)
            volumes[variant] = load_volume(path).data
            if volumes[variant].shape != original.shape:
                raise InputError(
                    f"{path}: shape {volumes[variant].shape}, the original has {original.shape}; "
                    "make it again"
                )
        yield subject, _locations(study, subject), original, volumes


def _locations(study, subject):
    return _read_arrays(study.patches(subject))


def _cut(volume, located, dim):
    return patches.extract(volume, located[f"dim{dim}"], located["size"], dim)


def _write_arrays(path, **arrays):
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_features(study, name):
    """The arrays that `extract_features` wrote."""
    return _read_arrays(study.features(name))


def _read_arrays(path):
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zip, pickle and numpy errors: whatever a damaged file brings
        raise InputError(f"{path}: cannot be read ({error}); make it again") from error


@contextmanager
def _about(path):
    """Name the file in an InputError that does not know it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
