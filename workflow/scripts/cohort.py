"""Draws one subject of every cell of the demo cohort."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.realism import plot_cells
    from realdeal.provenance import stamp
    from realdeal.study import Study

    study = Study(snakemake.params.study)
    examples = snakemake.params.examples
    plot_cells(snakemake.output[0], study, examples, stamp(study, networks=()))
