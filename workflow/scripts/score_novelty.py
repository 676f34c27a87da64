"""Scores how much volumes are like the training scan that they are most like."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.novelty import score_novelty
    from realdeal.study import Study

    score_novelty(
        Study(snakemake.params.study),
        snakemake.params.groups,
        snakemake.params.learnt,
    )
