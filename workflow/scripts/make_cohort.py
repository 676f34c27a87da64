"""Makes the scans of some demo subjects."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.demo import write_cohort
    from realdeal.study import Study

    write_cohort(
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.settings,
        snakemake.params.shape,
        snakemake.params.seed,
    )
