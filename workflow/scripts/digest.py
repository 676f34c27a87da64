"""Writes the digests of some subjects' scans."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.provenance import write_digests

    write_digests(snakemake.output[0], snakemake.params.files)
