"""Scores the autoencoder's reconstructions as whole volumes."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.whole import score_reconstruction
    from realdeal.study import Study

    score_reconstruction(Study(snakemake.params.study), snakemake.params.subjects)
