"""Downloads one HCP subject."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.sources import fetch_hcp

    fetch_hcp(
        snakemake.wildcards.subject,
        snakemake.output.image,
        snakemake.output.labels,
        snakemake.params.settings,
    )
