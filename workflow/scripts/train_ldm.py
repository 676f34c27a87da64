"""Trains the latent diffusion model."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.study import Study
    from realdeal.training.launch import train

    train(
        snakemake.params.name,
        Study(snakemake.params.study),
        snakemake.params.subjects,
        snakemake.params.settings,
        snakemake.params.seed,
    )
