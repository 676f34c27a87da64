"""What the tables and figures of the paper consist of.

Standard library only: the Snakefile imports it for the inputs of each item.
"""

from typing import NamedTuple


class Column(NamedTuple):
    """One column of a table; `region`, `dim` and `k` are None where the metric has none."""

    metric: str
    region: str | None = None
    dim: int | None = None
    k: int | None = None


class Table(NamedTuple):
    """A table compares a coarse variant and its refinement with the originals."""

    title: str
    baseline: str
    refined: str
    columns: tuple[Column, ...]

    @property
    def scores(self):
        """The score files that the table reads."""
        return tuple(dict.fromkeys(SCORE_FILES[column.metric] for column in self.columns))


SCORE_FILES = {
    "lpips": "lpips",
    "hog_3x3": "hog",
    "hog_1x1": "hog",
    "noise_kl": "noise",
    "sharpness": "sharpness",
    "seam": "seam",
    "fid": "distribution",
    "coverage": "distribution",
    "density": "distribution",
}

# Distances to the originals, zero at best. The others are compared with the originals' own value.
DISTANCES = ("lpips", "hog_3x3", "hog_1x1", "noise_kl")

# The paper's names of the rows.
ROWS = {
    "reconstructed": "Recon.",
    "synthetic": "Synthetic",
    "reconstructed-refined": "RealDeal",
    "synthetic-refined": "RealDeal",
    "rescan": "Orig.",
    "original": "Orig.",
}

HEADINGS = {
    ("lpips", None): "LPIPS ↓",
    ("hog_3x3", "brain"): "Whole brain textural similarity ↓ (3×3 blocks)",
    ("hog_3x3", "cerebellum"): "Cerebellum textural similarity ↓ (3×3 blocks)",
    ("hog_1x1", "brain"): "Whole brain textural similarity ↓ (1×1 blocks)",
    ("hog_1x1", "cerebellum"): "Cerebellum textural similarity ↓ (1×1 blocks)",
    ("noise_kl", "white-matter"): "Noise KL ↓ (white matter)",
    ("noise_kl", "ventricles"): "Noise KL ↓ (lateral ventricles)",
    ("sharpness", None): "Sharpness ↑",
    ("seam", None): "Seams (1: none; not in the paper)",
    ("fid", None): "FID ↓",
    ("coverage", None): "Coverage ↑",
    ("density", None): "Density ↑",
}


def heading(column):
    """What a column measures, with an arrow to the better side."""
    label = HEADINGS[column.metric, column.region]
    return f"{label} (k = {column.k})" if column.k else label


DIMENSIONS = (0, 1, 2)
NETWORKS = ("autoencoder", "ldm", "refiner")
RECONSTRUCTION = ("reconstructed", "reconstructed-refined")
SYNTHESIS = ("synthetic", "synthetic-refined")


def _neighbours(k):
    return tuple(
        Column(metric, k=k, dim=d) for metric in ("coverage", "density") for d in DIMENSIONS
    )


TABLES = {
    1: Table(
        "LPIPS, textural similarity and noise divergence (white matter) between original images "
        "and their reconstructed and refined images",
        *RECONSTRUCTION,
        (
            *(Column("lpips", dim=d) for d in DIMENSIONS),
            *(
                Column(metric, region, d)
                for metric in ("hog_3x3", "hog_1x1")
                for region in ("brain", "cerebellum")
                for d in DIMENSIONS
            ),
            Column("noise_kl", "white-matter"),
        ),
    ),
    2: Table(
        "Sharpness of original, reconstructed and refined images",
        *RECONSTRUCTION,
        (Column("sharpness"), Column("seam")),
    ),
    3: Table(
        "FID, coverage and density (k = 10) of synthetic and refined images against originals",
        *SYNTHESIS,
        (*(Column("fid", dim=d) for d in DIMENSIONS), *_neighbours(10)),
    ),
    4: Table(
        "Noise divergence (lateral ventricles) between original images and their reconstructed "
        "and refined images",
        *RECONSTRUCTION,
        (Column("noise_kl", "ventricles"),),
    ),
    5: Table(
        "Coverage and density (k = 5) of synthetic and refined images against original images",
        *SYNTHESIS,
        _neighbours(5),
    ),
    6: Table(
        "Coverage and density (k = 20) of synthetic and refined images against original images",
        *SYNTHESIS,
        _neighbours(20),
    ),
}


class Figure(NamedTuple):
    """A figure shows `shown` subjects from the `first` on, in each of the variants."""

    title: str
    variants: tuple[str, ...]
    first: int
    shown: int = 1


PAIRED = ("original", *RECONSTRUCTION)

FIGURES = {
    3: Figure("Original, reconstructed and refined sagittal slice of a test subject", PAIRED, 0),
    4: Figure("Sagittal slice of a synthetic brain and its refinement", SYNTHESIS, 0),
    5: Figure("Test subject 1: original, reconstructed and refined", PAIRED, 1),
    6: Figure("Test subject 2: original, reconstructed and refined", PAIRED, 2),
    7: Figure("Test subject 3: original, reconstructed and refined", PAIRED, 3),
    8: Figure("Two synthetic brains and their refinements", SYNTHESIS, 1, 2),
    9: Figure("Two further synthetic brains and their refinements", SYNTHESIS, 3, 2),
    10: Figure("Two further synthetic brains and their refinements", SYNTHESIS, 5, 2),
}


def figure_subjects(number, subjects, synthetic):
    """The subjects that figure `number` shows, of the test subjects and the synthetic ones.

    A study with fewer subjects than the figures ask for starts again at the first.
    """
    figure = FIGURES[number]
    pool = subjects if figure.variants == PAIRED else synthetic
    chosen = [pool[(figure.first + i) % len(pool)] for i in range(figure.shown)]
    return list(dict.fromkeys(chosen))


def figure_volumes(number, study, subjects, synthetic):
    """The files that figure `number` reads."""
    return [
        study.volume(variant, subject)
        for subject in figure_subjects(number, subjects, synthetic)
        for variant in FIGURES[number].variants
    ]
