"""From scans to volumes in [-1, 1] with regions, and the table of participants."""

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
            demo=DEMO,
            rescans=rescanned,
        script:
            "../scripts/preprocess.py"


for number, subjects in chunks(SUBJECTS):

    rule:
        """Digests of the scans, by which tables and figures say what data they are of."""
        name:
            f"digest_{number}"
        input:
            scans(subjects),
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
            files={subject: source(subject) for subject in subjects},
        script:
            "../scripts/digest.py"


rule participants:
    """The table of participants, with the split."""
    input:
        regions(SUBJECTS),
        covariates(SUBJECTS) if DEMO else [],
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
        train=TRAIN,
        test=TEST,
    script:
        "../scripts/participants.py"
