"""Preprocesses some subjects."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.preprocessing import preprocess
    from realdeal.study import Study

    preprocess(
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.files,
        snakemake.params.settings,
        snakemake.params.coded,
        snakemake.params.rescans,
    )
