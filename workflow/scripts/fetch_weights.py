"""Fetches the pretrained weights of LPIPS."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from pathlib import Path

    from realdeal.metrics.weights import alexnet_weights

    alexnet_weights(Path(snakemake.output[0]).parent)
