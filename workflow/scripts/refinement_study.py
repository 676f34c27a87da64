"""Measures all ways of refining."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.refinement_study import compare_ways
    from realdeal.study import Study

    compare_ways(
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.ways,
        snakemake.params.settings,
        snakemake.params.seed,
        snakemake.input.weights,
        snakemake.params.patch_size,
        snakemake.params.stride,
    )
