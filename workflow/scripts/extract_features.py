"""Computes the features of patches."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import extract_features
    from realdeal.study import Study

    for name, (variant, subjects) in snakemake.params.features.items():
        extract_features(
            Study(snakemake.params.study),
            variant,
            subjects,
            snakemake.params.settings,
            snakemake.input.weights,
            name=name,
        )
