"""Samples synthetic volumes from a MONAI bundle."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.bundle.sampling import sample
    from realdeal.study import Study

    sample(
        Study(snakemake.params.study),
        snakemake.params.bundle,
        snakemake.params.names,
        snakemake.params.settings,
        snakemake.params.seed,
        snakemake.input.like,
    )
