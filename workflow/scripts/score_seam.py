"""Measures seams between refined patches."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.metrics.protocol import score_seam
    from realdeal.refinement.grid import patch_grid
    from realdeal.study import Study

    score_seam(
        Study(snakemake.params.study),
        snakemake.params.variants,
        snakemake.params.subjects,
        *patch_grid(
            snakemake.params.way,
            snakemake.params.shape,
            snakemake.params.patch_size,
            snakemake.params.stride,
        ),
    )
