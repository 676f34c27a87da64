"""Computes the features of a variant's patches."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import extract_features
    from realdeal.study import Study

    extract_features(
        Study(snakemake.params.study),
        snakemake.params.variant,
        snakemake.params.subjects,
        snakemake.params.settings,
        snakemake.input.weights,
        name=snakemake.params.name,
    )
