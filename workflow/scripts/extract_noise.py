"""Separates the noise of a variant."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import extract_noise
    from realdeal.study import Study

    extract_noise(
        Study(snakemake.params.study),
        snakemake.params.variant,
        snakemake.params.subjects,
        snakemake.params.settings,
    )
