"""Reads covariates from volumes."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.observation.observer import observe
    from realdeal.study import Study

    observe(Study(snakemake.params.study), snakemake.params.variant, snakemake.params.names)
