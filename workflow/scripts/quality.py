"""Draws and measures some preprocessed volumes."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.data.quality import inspect
    from realdeal.study import Study

    inspect(Study(snakemake.params.study), snakemake.params.subjects)
