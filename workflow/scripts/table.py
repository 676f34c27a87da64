"""Makes a table of the paper."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.published import Published
    from realdeal.paper.tables import make_table
    from realdeal.study import Study

    make_table(
        snakemake.params.number,
        Study(snakemake.params.study),
        Published(snakemake.input.published),
        snakemake.params.settings,
        snakemake.params.seed,
        snakemake.params.notes,
        snakemake.params.subjects,
    )
