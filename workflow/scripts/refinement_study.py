"""Measures all ways of refining."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.refinement_study import compare_ways
    from realdeal.provenance import stamp
    from realdeal.study import Study

    study = Study(snakemake.params.study)
    compare_ways(
        study,
        snakemake.params.subjects,
        snakemake.params.ways,
        snakemake.params.settings,
        snakemake.params.seed,
        snakemake.input.weights,
        snakemake.params.patch_size,
        snakemake.params.stride,
        stamp(study, snakemake.params.networks),
    )
