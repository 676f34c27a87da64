"""Prepares some scans of a BIDS dataset."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.prepare import prepare
    from realdeal.study import Study

    prepare(
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.files,
        snakemake.params.settings,
        snakemake.params.shape,
    )
