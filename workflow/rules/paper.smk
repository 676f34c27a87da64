"""The paper's tables and figures, each a target of its own, and the report."""


rule provenance:
    """Configuration, code, versions, data and seed, which every table and figure names."""
    input:
        [STUDY.digests(number) for number in digested()],
    output:
        STUDY.provenance,
    log:
        f"{LOGS}/provenance.log",
    benchmark:
        f"{BENCHMARKS}/provenance.tsv"
    localrule: True
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        config=config,
        code=library_version(),
    script:
        "../scripts/provenance.py"


for number, table in TABLES.items():

    rule:
        """A table of the paper: our numbers with intervals, the paper's, the gap closed."""
        name:
            f"table{number}"
        input:
            [STUDY.scores(name) for name in table.scores],
            STUDY.provenance,
            [network(name) for name in behind(table.baseline)],
            published=f"{ROOT}/resources/published.csv",
        output:
            csv=report(
                str(STUDY.table(number)),
                caption="../report/table.rst",
                category="Tables",
                labels={"table": str(number), "content": table.title},
            ),
            md=STUDY.table(number, "md"),
            tex=STUDY.table(number, "tex"),
        log:
            f"{LOGS}/table{number}.log",
        benchmark:
            f"{BENCHMARKS}/table{number}.tsv"
        conda:
            "../../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=30,
        params:
            study=study_root,
            number=number,
            settings=config["evaluation"],
            seed=config["seed"],
            notes=NOTES,
            subjects=len(EVALUATED) if table.baseline == "reconstructed" else len(SYNTHETIC),
            networks=behind(table.baseline),
            code=code("table"),
        script:
            "../scripts/table.py"


for number, item in FIGURES.items():

    rule:
        """A figure of the paper, of the study's own volumes."""
        name:
            f"figure{number}"
        input:
            figure_volumes(number, STUDY, EVALUATED, SYNTHETIC),
            STUDY.provenance,
            [network(name) for name in behind(item.variants[-1])],
        output:
            report(
                str(STUDY.figure(number)),
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": str(number), "content": item.title},
            ),
        log:
            f"{LOGS}/figure{number}.log",
        benchmark:
            f"{BENCHMARKS}/figure{number}.tsv"
        conda:
            "../../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=30,
        params:
            study=study_root,
            number=number,
            subjects=EVALUATED,
            synthetic=SYNTHETIC,
            networks=behind(item.variants[-1]),
            code=code("figure"),
        script:
            "../scripts/figure.py"


# Tables and figures of Brain LDM and Conditional MRI: all of them read the same few scores.
ITEM_FACTS = {}
if SYSTEM != REALDEAL:
    EXAMPLES_OF_CELLS = {}
    for subject in EVALUATED:
        EXAMPLES_OF_CELLS.setdefault(cell_of(subject), subject)
    ITEM_FACTS = {
        "sets": {name: members.names for name, members in SETS.items() if name in COMPARED},
        "evaluated": EVALUATED,
        "test": TEST,
        "covariates": config["ldm"]["conditioning"]["covariates"],
        "settings": config["sampling"]["ldm"],
        "features": config["evaluation"]["distribution"]["features"],
        "ways": config["sampling_study"]["ways"],
        "extrapolation": config["sampling_study"]["extrapolation"],
        "unseen": config["preprocessing"]["unseen"],
        "cells": sorted(set(map(cell_of, SUBJECTS))),
        "examples": EXAMPLES_OF_CELLS,
        "seed": config["seed"],
    }
    SCORED = {
        BRAIN_LDM: ["distribution", "diversity", "novelty", "sampling_time"],
        CONDITIONAL_MRI: ["distribution", "diversity", "novelty", "cells", "reconstruction"],
    }

for kind, items in ITEMS[SYSTEM].items():

    for item, title in items.items():

        rule:
            """A table or a figure of the study's system."""
            name:
                f"{kind.removesuffix('s')}_{item}"
            input:
                [STUDY.scores(name) for name in SCORED[SYSTEM]],
                [measured(*of) for of in OBSERVED.values()],
                [asked(members.names) for members in SETS.values()],
                volumes("original", EVALUATED),
                volumes("synthetic-refined", SYNTHETIC),
                STUDY.participants,
                STUDY.provenance,
                [network(name) for name in networks()],
                published=f"{ROOT}/resources/published_brain_ldm.csv",
            output:
                report(
                    str(STUDY.item(item, "csv" if kind == "tables" else "png")),
                    caption="../report/item.rst",
                    category=kind.capitalize(),
                    labels={"content": title},
                ),
                [STUDY.item(item, suffix) for suffix in ("md", "tex") if kind == "tables"],
            log:
                f"{LOGS}/{kind}_{item}.log",
            benchmark:
                f"{BENCHMARKS}/{kind}_{item}.tsv"
            conda:
                "../../envs/report.yaml"
            threads: 1
            resources:
                mem_mb=growing(4000),
                runtime=30,
            params:
                study=study_root,
                system=SYSTEM,
                kind=kind,
                name=item,
                facts=ITEM_FACTS,
                networks=networks(),
                code=code("paper_item"),
            script:
                "../scripts/paper_item.py"


rule banner:
    """The whole method in one picture: a test subject and a synthetic brain, coarse and refined."""
    input:
        figure_volumes(3, STUDY, EVALUATED, SYNTHETIC),
        figure_volumes(4, STUDY, EVALUATED, SYNTHETIC),
        STUDY.provenance,
        [network(name) for name in behind("synthetic")],
    output:
        STUDY.root / "figures" / "banner.png",
    log:
        f"{LOGS}/banner.log",
    benchmark:
        f"{BENCHMARKS}/banner.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=15,
    params:
        study=study_root,
        subject=EVALUATED[0],
        synthetic=SYNTHETIC[0],
        networks=behind("synthetic"),
        code=code("banner"),
    script:
        "../scripts/banner.py"


rule report:
    """One self-contained page: cohort, pictures, training curves, all tables, run facts."""
    input:
        STUDY.participants,
        STUDY.provenance,
        RESULTS,
        [path(name) for path in (network, STUDY.history, STUDY.picture) for name in networks()],
        rules.banner.output if SYSTEM == REALDEAL else [],
        rules.realism.output if DEMO else [],
        rules.quality.output if BIDS else [],
        rules.cohort.output if len(EXAMPLES) > 1 else [],
        template=f"{ROOT}/src/realdeal/paper/report.html.j2",
    output:
        report(str(STUDY.report), category="Report", labels={"content": "the whole study"}),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=30,
    params:
        study=study_root,
        config=config,
        facts={
            "training subjects": TRAIN,
            "test subjects": TEST,
            "evaluated subjects": EVALUATED,
            "synthetic volumes": SYNTHETIC,
            "networks": networks(),
            "notes": NOTES,
            "left_out": LEFT_OUT,
        },
        code=code("report"),
    script:
        "../scripts/report.py"
