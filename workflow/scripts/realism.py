"""Draws a demo subject beside the template."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.realism import plot_realism
    from realdeal.provenance import stamp
    from realdeal.study import Study

    plot_realism(
        snakemake.output[0],
        snakemake.params.settings,
        snakemake.params.shape,
        snakemake.params.seed,
        stamp(Study(snakemake.params.study), networks=()),
    )
