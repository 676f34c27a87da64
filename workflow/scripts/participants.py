"""Writes the table of participants and checks it."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.config import check_table
    from realdeal.data.preprocessing import write_participants
    from realdeal.study import Study

    study = Study(snakemake.params.study)
    write_participants(
        study,
        snakemake.params.subjects,
        snakemake.params.train,
        snakemake.params.test,
        snakemake.params.unseen,
    )
    check_table(study.participants, snakemake.input.schema)
