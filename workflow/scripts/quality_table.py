"""Tabulates the measures of quality and marks outliers."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.quality import write_quality
    from realdeal.study import Study

    write_quality(Study(snakemake.params.study), snakemake.params.subjects)
