"""Distance between sets of features: FID, coverage and density (paper, Tables 3, 5 and 6)."""

import warnings
from typing import NamedTuple

import numpy as np

from realdeal.errors import InputError

TOLERANCE = 1e-7  # negative eigenvalues up to this share of the largest are rounding


class Gaussian(NamedTuple):
    """Mean (features,) and unbiased covariance (features, features) of n samples, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    n: float

    @property
    def rank_deficient(self):
        """Whether there are too few samples for a covariance of full rank."""
        return self.n <= len(self.mean)


def gaussian(features):
    """The `Gaussian` of features (N, features); InputError for NaN or fewer than 2 samples."""
    features = _checked(features)
    if len(features) < 2:
        raise InputError(f"{len(features)} samples: a covariance needs at least 2")
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    # NumPy computes a product with the own transpose in half the time; np.cov does not use it.
    return Gaussian(mean, centred.T @ centred / (len(features) - 1), len(features))


def frechet_distance(first, second):
    """Fréchet distance of two sets: |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    `first` and `second` are features (N, features) or a `Gaussian`. With any factor A of
    C1 = A A^T, the eigenvalues of C1 C2 are those of the symmetric A^T C2 A; the trace of the
    root comes from them, in float64. Eigenvalues that are negative beyond rounding raise
    InputError. Warns where a covariance is rank deficient: the distance then depends on the
    number of samples.
    """
    first, second = (s if isinstance(s, Gaussian) else gaussian(s) for s in (first, second))
    for samples in (first, second):
        if samples.rank_deficient:
            warnings.warn(
                f"Fréchet distance of {len(samples.mean)} features from {samples.n:g} samples: "
                "the covariance is rank deficient, compare only with equal numbers of samples",
                stacklevel=2,
            )
    return distance_to_factor(first, factor(first.covariance), second)


def factor(covariance):
    """A matrix A with A A^T = `covariance`, from Cholesky where the rank is full (it is faster)."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(_positive(values))


def distance_to_factor(first, first_factor, second):
    """`frechet_distance` of two `Gaussian`s where a factor of the first covariance is at hand."""
    if len(first.mean) != len(second.mean):
        raise InputError(
            f"features of {len(first.mean)} and {len(second.mean)} dimensions: extract them again"
        )
    product = first_factor.T @ second.covariance @ first_factor
    values = np.linalg.eigvalsh((product + product.T) / 2)
    trace = np.trace(first.covariance) + np.trace(second.covariance)
    # Rounding may leave the distance of equal sets a hair below zero.
    return float(
        max(
            np.sum((first.mean - second.mean) ** 2) + trace - 2 * np.sqrt(_positive(values)).sum(),
            0.0,
        )
    )


def _positive(values):
    """Eigenvalues with the rounding below zero removed; InputError where it is more than that."""
    if not np.isfinite(values).all() or values.min() < -TOLERANCE * max(values.max(), 1e-300):
        raise InputError(
            f"eigenvalues from {values.min():g} to {values.max():g}: not a covariance matrix; "
            "extract the features again"
        )
    return np.maximum(values, 0)


class SubjectSums:
    """Sums over each subject's features, from which any resample's `Gaussian` follows at once."""

    def __init__(self, features):
        """`features` is (subjects, patches, features)."""
        subjects, self.patches, dim = np.shape(features)
        self.centre = _checked(features).mean(axis=(0, 1), dtype=np.float64)
        self.sums = np.empty((subjects, dim))
        self.products = np.empty((subjects, dim, dim))
        for i, one in enumerate(features):
            centred = one.astype(np.float64) - self.centre  # keeps the products well conditioned
            self.sums[i] = centred.sum(axis=0)
            self.products[i] = centred.T @ centred

    def gaussian(self, weights):
        """The `Gaussian` of the subjects, each taken `weights` (subjects,) times."""
        n = np.sum(weights) * self.patches
        mean = weights @ self.sums / n
        covariance = np.tensordot(weights, self.products, 1) - n * np.outer(mean, mean)
        return Gaussian(mean + self.centre, covariance / (n - 1), n)


class Neighbourhood(NamedTuple):
    """Which fakes lie in the balls around the reals, for each k.

    `hits` (k, reals, groups) counts the fakes of each group that are nearer to a real than its
    k-th nearest real; `sizes` (groups,) is the number of fakes in each group.
    """

    neighbours: tuple[int, ...]
    hits: np.ndarray
    sizes: np.ndarray

    def coverage(self):
        """Share of the reals with a fake in their ball, one float for each k."""
        return (self.hits.sum(axis=2) > 0).mean(axis=1)

    def density(self):
        """Balls that hold a fake, divided by k, averaged over the fakes: one float for each k."""
        return self.hits.sum(axis=(1, 2)) / np.array(self.neighbours) / self.sizes.sum()


def neighbourhood(real, fake, neighbours, groups=None, megabytes=256):
    """Coverage and density (Naeem et al. 2020) as the prdc package, in bounded memory.

    `real` (N, features), `fake` (M, features); `neighbours`, one or several k. The ball of a
    real reaches to its k-th nearest other real and is open (strict <). `groups` (M,) numbers the
    subject of each fake from 0, so that subjects can be resampled. Distances are those of
    scikit-learn, taken in chunks of `megabytes`. InputError for NaN, different dimensions, or
    k >= N.
    """
    from sklearn.metrics import pairwise_distances_chunked

    real, fake = _checked(real), _checked(fake)
    neighbours = tuple(np.atleast_1d(neighbours).tolist())
    if real.shape[1] != fake.shape[1]:
        raise InputError(
            f"features of {real.shape[1]} and {fake.shape[1]} dimensions: extract them again"
        )
    if min(neighbours) < 1 or max(neighbours) >= len(real):
        raise InputError(
            f"evaluation.distribution.neighbours {list(neighbours)}: each k must lie between 1 "
            f"and {len(real) - 1}, one less than the number of original patches"
        )
    groups = np.zeros(len(fake), dtype=int) if groups is None else np.asarray(groups)
    sizes = np.bincount(groups)

    def kth(distances, _):
        # Position 0 holds the real itself, at distance 0.
        return np.partition(distances, neighbours, axis=1)[:, neighbours]

    options = {"metric": "euclidean", "working_memory": megabytes}
    radii = np.concatenate(list(pairwise_distances_chunked(real, reduce_func=kth, **options)))

    order = np.argsort(groups, kind="stable")
    present = np.flatnonzero(sizes)
    starts = np.searchsorted(groups[order], present)

    def count(distances, start):
        near = radii[start : start + len(distances), :, None]
        found = np.zeros((len(distances), len(neighbours), len(sizes)), dtype=np.int32)
        for i in range(len(neighbours)):
            inside = distances < near[:, i]
            found[:, i, present] = np.add.reduceat(inside, starts, axis=1, dtype=np.int32)
        return found

    chunks = pairwise_distances_chunked(real, fake[order], reduce_func=count, **options)
    return Neighbourhood(neighbours, np.concatenate(list(chunks)).transpose(1, 0, 2), sizes)


def resample_neighbourhood(found, real_groups, real_weights, fake_weights):
    """Coverage and density of resampled subjects.

    `real_groups` (N,) numbers the subject of each real; the weights (draws, subjects) say how
    often each draw takes each subject. The balls stay those of all reals: a real taken twice
    would otherwise be its own neighbour. Returns two arrays (draws, k).
    """
    real_groups = np.asarray(real_groups)
    real_weights = np.asarray(real_weights, dtype=np.float64)
    fake_weights = np.asarray(fake_weights, dtype=np.float64)
    member = np.eye(real_weights.shape[1])[real_groups]  # (reals, subjects)
    reals = (real_weights @ member.sum(axis=0))[:, None]
    fakes = (fake_weights @ found.sizes)[:, None]
    coverage, density = [], []
    drawn = (fake_weights.T > 0).astype(np.float32)
    for k, hits in zip(found.neighbours, found.hits, strict=True):
        covered = ((hits > 0).astype(np.float32) @ drawn > 0).astype(np.float32)  # (reals, draws)
        coverage.append(np.einsum("ds,sd->d", real_weights, member.T.astype(np.float32) @ covered))
        balls = np.einsum("ds,sf,df->d", real_weights, member.T @ hits, fake_weights, optimize=True)
        # As in the estimate: a mean over fakes of a sum over reals.
        density.append(balls / k)
    return np.stack(coverage, 1) / reals, np.stack(density, 1) / fakes


def _checked(features):
    features = np.asarray(features)
    if features.ndim < 2 or not features.size:
        raise InputError(f"features of shape {features.shape}: need (N, features)")
    if not np.isfinite(features).all():
        raise InputError("features hold NaN or infinite values; extract them again")
    return features
