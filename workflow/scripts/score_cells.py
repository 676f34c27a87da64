"""Scores the FID of each pathology in each modality."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.cells import score_cells
    from realdeal.study import Study

    score_cells(
        Study(snakemake.params.study),
        snakemake.params.candidates,
        snakemake.params.groups,
        snakemake.params.seed,
    )
