"""Downloads one HCP subject."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.hcp import fetch

    fetch(
        snakemake.wildcards.subject,
        snakemake.output.image,
        snakemake.output.labels,
        snakemake.params.terms_accepted,
    )
