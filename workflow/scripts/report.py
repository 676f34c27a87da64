"""Writes the report of the study."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.report import write_report
    from realdeal.study import Study

    write_report(
        Study(snakemake.params.study),
        snakemake.params.config,
        snakemake.params.facts,
        snakemake.output[0],
    )
