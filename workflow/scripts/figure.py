"""Draws a figure of the paper."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.figures import figure
    from realdeal.study import Study

    figure(
        snakemake.params.number,
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.synthetic,
    )
