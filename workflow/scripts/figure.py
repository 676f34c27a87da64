"""Draws a figure of the paper."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.figures import figure
    from realdeal.provenance import stamp
    from realdeal.study import Study

    study = Study(snakemake.params.study)
    figure(
        snakemake.params.number,
        study,
        snakemake.params.subjects,
        snakemake.params.synthetic,
        stamp(study, snakemake.params.networks),
    )
