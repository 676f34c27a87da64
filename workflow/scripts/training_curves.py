"""Draws the training curves."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.figures import training_curves
    from realdeal.study import Study

    training_curves(Study(snakemake.params.study), snakemake.output[0])
