"""Refines reconstructions one way."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.refinement.ways import refine_way
    from realdeal.study import Study

    refine_way(
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.way,
        snakemake.params.seed,
    )
