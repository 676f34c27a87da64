"""Draws the whole method in one picture."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.figures import banner
    from realdeal.provenance import stamp
    from realdeal.study import Study

    study = Study(snakemake.params.study)
    banner(
        study,
        snakemake.params.subject,
        snakemake.params.synthetic,
        snakemake.output[0],
        stamp(study, snakemake.params.networks),
    )
