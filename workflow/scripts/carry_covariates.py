"""Carries over what a BIDS dataset says of its participants."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.participants import carry_covariates
    from realdeal.study import Study

    carry_covariates(
        Study(snakemake.params.study), snakemake.params.subjects, snakemake.params.settings
    )
