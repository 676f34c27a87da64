"""Refines coarse volumes."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.refinement.workflow import refine
    from realdeal.study import Study

    refine(
        Study(snakemake.params.study),
        snakemake.params.variant,
        snakemake.params.subjects,
        snakemake.params.settings,
        snakemake.params.seed,
    )
