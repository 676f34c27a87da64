"""Draws patch locations."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import draw_patches
    from realdeal.study import Study

    draw_patches(
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.synthetic,
        snakemake.params.settings,
        snakemake.params.seed,
    )
