"""Times the ways of sampling."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.sampling import measure_time
    from realdeal.study import Study

    measure_time(
        Study(snakemake.params.study),
        snakemake.params.ways,
        snakemake.params.volumes,
        snakemake.params.seed,
        snakemake.params.asked_of,
    )
