"""Measures the divergence of the noise."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import score_noise
    from realdeal.study import Study

    score_noise(
        Study(snakemake.params.study),
        snakemake.params.variants,
        snakemake.params.subjects,
        snakemake.params.settings,
        snakemake.params.seed,
    )
