"""Makes a table of the paper."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper.published import Published
    from realdeal.paper.tables import make_table
    from realdeal.provenance import stamp
    from realdeal.study import Study

    study = Study(snakemake.params.study)
    make_table(
        snakemake.params.number,
        study,
        Published(snakemake.input.published),
        snakemake.params.settings,
        snakemake.params.seed,
        snakemake.params.notes,
        snakemake.params.subjects,
        stamp(study, snakemake.params.networks),
    )
