"""Writes what makes the study."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.provenance import write_provenance

    write_provenance(snakemake.output[0], snakemake.params.config, snakemake.input)
