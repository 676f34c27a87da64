"""Sends some subjects through the autoencoder."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.reconstruction import reconstruct
    from realdeal.study import Study

    reconstruct(
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.evaluated,
    )
