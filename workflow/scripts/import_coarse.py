"""Brings another generator's volumes to the study's grid and scale."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.refinement.external import import_coarse
    from realdeal.study import Study

    import_coarse(
        Study(snakemake.params.study),
        snakemake.params.files,
        snakemake.input.like,
        snakemake.params.intensity,
    )
