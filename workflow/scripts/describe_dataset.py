"""Writes what stands at the top of the BIDS dataset."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.dataset.description import write_description
    from realdeal.study import Study

    write_description(
        Study(snakemake.params.study),
        snakemake.params.names,
        snakemake.params.name,
        snakemake.params.source,
        snakemake.params.variant,
        snakemake.params.external,
        snakemake.input.citation,
    )
