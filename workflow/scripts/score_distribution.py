"""Measures FID, coverage and density."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import score_distribution
    from realdeal.study import Study

    score_distribution(
        Study(snakemake.params.study),
        snakemake.params.candidates,
        snakemake.params.settings,
        snakemake.params.seed,
    )
