"""Makes a table or a figure of Brain LDM or the conditional MRI LDM."""

from typing import TYPE_CHECKING

from realdeal.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake):
    from realdeal.paper import brain_ldm, conditional_mri
    from realdeal.provenance import stamp
    from realdeal.study import Study
    from realdeal.systems import BRAIN_LDM, ITEMS

    system, kind, name = (snakemake.params[key] for key in ("system", "kind", "name"))
    module = brain_ldm if system == BRAIN_LDM else conditional_mri
    make = {"tables": module.TABLES, "figures": module.FIGURES}[kind][name]
    study = Study(snakemake.params.study)
    facts = snakemake.params.facts | {
        "stamp": stamp(study, snakemake.params.networks),
        "title": ITEMS[system][kind][name],
        "published": snakemake.input.published,
    }
    make(study, facts)
