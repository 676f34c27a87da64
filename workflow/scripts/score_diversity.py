"""Scores the similarity of pairs of volumes."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.whole import score_diversity
    from realdeal.study import Study

    score_diversity(
        Study(snakemake.params.study),
        snakemake.params.groups,
        snakemake.params.pairs,
        snakemake.params.seed,
    )
