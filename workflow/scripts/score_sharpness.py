"""Measures sharpness."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import score_sharpness
    from realdeal.study import Study

    score_sharpness(
        Study(snakemake.params.study),
        snakemake.params.variants,
        snakemake.params.subjects,
        snakemake.params.settings,
    )
