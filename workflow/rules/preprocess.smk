"""From scans to volumes in [-1, 1] with regions, the table of participants, quality control."""

for number, subjects in chunks(SUBJECTS):
    rescanned = [subject for subject in subjects if subject in RESCANNED]

    rule:
        """Crop or pad, rescale to [-1, 1], mark regions (paper, section 3.1)."""
        name:
            f"preprocess_{number}"
        input:
            scans(subjects),
            [STUDY.cohort("rescan", subject) for subject in rescanned],
        output:
            volumes("original", subjects),
            volumes("rescan", rescanned),
            regions(subjects),
            stores("original", subjects),
        log:
            f"{LOGS}/preprocess_{number}.log",
        benchmark:
            f"{BENCHMARKS}/preprocess_{number}.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=60,
        params:
            study=study_root,
            subjects=subjects,
            files={subject: source(subject) for subject in subjects},
            settings=config["preprocessing"],
            coded=DEMO or BIDS,
            rescans=rescanned,
        script:
            "../scripts/preprocess.py"


for number, files in digested().items():

    rule:
        """Digests of the scans, by which tables and figures say what data they are of."""
        name:
            f"digest_{number}"
        input:
            [path for kinds in files.values() for path in kinds.values() if path],
        output:
            STUDY.digests(number),
        log:
            f"{LOGS}/digest_{number}.log",
        benchmark:
            f"{BENCHMARKS}/digest_{number}.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=60,
        params:
            files=files,
        script:
            "../scripts/digest.py"


rule participants:
    """The table of participants, with the split."""
    input:
        regions(SUBJECTS),
        covariates(SUBJECTS) if DEMO or BIDS else [],
        schema=f"{ROOT}/workflow/schemas/participants.schema.yaml",
    output:
        STUDY.participants,
    log:
        f"{LOGS}/participants.log",
    benchmark:
        f"{BENCHMARKS}/participants.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=30,
    params:
        study=study_root,
        subjects=SUBJECTS,
        train=LEARNT,
        test=TEST,
        unseen=[subject for subject in TRAIN if subject not in set(LEARNT)],
    script:
        "../scripts/participants.py"


for number, subjects in chunks(SUBJECTS):

    rule:
        """Look at preprocessed volumes: a picture of each with its outlines, and measures."""
        name:
            f"quality_{number}"
        input:
            volumes("original", subjects),
            regions(subjects),
        output:
            report(
                [str(STUDY.quality(f"{subject}.png")) for subject in subjects],
                caption="../report/quality.rst",
                category="Quality control",
            ),
            [STUDY.quality(f"{subject}.json") for subject in subjects],
        log:
            f"{LOGS}/quality_{number}.log",
        benchmark:
            f"{BENCHMARKS}/quality_{number}.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=120,
        params:
            study=study_root,
            subjects=subjects,
            code=code("quality"),
        script:
            "../scripts/quality.py"


rule quality:
    """The measures of all subjects in a table that marks outliers."""
    input:
        [STUDY.quality(f"{subject}.json") for subject in SUBJECTS],
        [STUDY.quality(f"{subject}.png") for subject in SUBJECTS],
    output:
        report(
            str(STUDY.quality("quality.csv")),
            caption="../report/quality.rst",
            category="Quality control",
        ),
    log:
        f"{LOGS}/quality.log",
    benchmark:
        f"{BENCHMARKS}/quality.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=30,
    params:
        study=study_root,
        subjects=SUBJECTS,
        code=code("quality_table"),
    script:
        "../scripts/quality_table.py"
