"""Fits the observer to real training scans."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.observation.observer import fit_observer
    from realdeal.study import Study

    fit_observer(
        Study(snakemake.params.study), snakemake.params.subjects, snakemake.params.covariates
    )
