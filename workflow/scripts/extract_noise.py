"""Separates the noise of variants."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import extract_noise
    from realdeal.study import Study

    for variant in snakemake.params.variants:
        extract_noise(
            Study(snakemake.params.study),
            variant,
            snakemake.params.subjects,
            snakemake.params.settings,
        )
