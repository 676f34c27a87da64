"""Draws the gap closure of all tables."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.figures import metric_overview
    from realdeal.study import Study

    metric_overview(Study(snakemake.params.study), snakemake.output[0])
