"""Writes synthetic volumes as subjects of the BIDS dataset."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.dataset.subjects import write_subjects
    from realdeal.study import Study

    write_subjects(
        Study(snakemake.params.study),
        snakemake.params.names,
        snakemake.params.variant,
        snakemake.params.making,
        snakemake.params.modalities,
        snakemake.params.asked,
        snakemake.params.measured,
    )
