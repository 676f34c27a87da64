"""Where scans and pretrained weights come from."""

if DEMO:

    for number, subjects in chunks(SUBJECTS):

        rule:
            """Make brains from template anatomy, with labels, noise-free truth and a rescan.

            Where the cohort has pathologies, the truth includes lesion masks.
            """
            name:
                f"make_cohort_{number}"
            output:
                [scan(subject) for subject in subjects],
                [
                    STUDY.cohort(kind, subject)
                    for kind in ["labels", "truth", "rescan"] + ["lesions"] * LESIONS
                    for subject in subjects
                ],
                covariates(subjects),
            log:
                f"{LOGS}/make_cohort_{number}.log",
            benchmark:
                f"{BENCHMARKS}/make_cohort_{number}.tsv"
            conda:
                "../../envs/data.yaml"
            threads: 1
            resources:
                mem_mb=growing(4000),
                runtime=60,
            params:
                study=study_root,
                subjects=subjects,
                settings=config["data"]["demo"],
                shape=config["preprocessing"]["shape"],
                seed=config["seed"],
            script:
                "../scripts/make_cohort.py"

    rule realism:
        """A cohort subject beside the template that it was made from."""
        input:
            STUDY.provenance,
        output:
            STUDY.root / "figures" / "realism.png",
        log:
            f"{LOGS}/realism.log",
        benchmark:
            f"{BENCHMARKS}/realism.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=15,
        params:
            study=study_root,
            settings=config["data"]["demo"],
            shape=config["preprocessing"]["shape"],
            seed=config["seed"],
            code=code("realism"),
        script:
            "../scripts/realism.py"

    if len(EXAMPLES) > 1:

        rule cohort:
            """A slice of one subject of every pathology in every modality."""
            input:
                [scan(subject) for subject in EXAMPLES.values()],
                [STUDY.cohort("labels", subject) for subject in EXAMPLES.values()],
                [STUDY.cohort("lesions", subject) for subject in EXAMPLES.values() if LESIONS],
                STUDY.provenance,
            output:
                STUDY.root / "figures" / "cohort.png",
            log:
                f"{LOGS}/cohort.log",
            benchmark:
                f"{BENCHMARKS}/cohort.tsv"
            conda:
                "../../envs/data.yaml"
            threads: 1
            resources:
                mem_mb=growing(2000),
                runtime=15,
            params:
                study=study_root,
                examples=[[*cell, subject] for cell, subject in EXAMPLES.items()],
                code=code("cohort"),
            script:
                "../scripts/cohort.py"


if config["data"]["source"] == "hcp":

    rule fetch_hcp:
        """Download a subject of HCP Young Adult; on the head node, which has the internet."""
        output:
            # update: a file that is there is compared with the bucket's, not fetched again, when
            # Snakemake repeats the job, which it does for as little as a touched script
            image=update(STUDY.cohort("T1w", "{subject}")),
            labels=update(STUDY.cohort("labels", "{subject}")),
        log:
            f"{LOGS}/fetch_hcp/{{subject}}.log",
        benchmark:
            f"{BENCHMARKS}/fetch_hcp/{{subject}}.tsv"
        localrule: True
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            downloads=1,
            mem_mb=1000,
            runtime=60,
        params:
            terms_accepted=config["data"]["hcp"]["terms_accepted"],
        script:
            "../scripts/fetch_hcp.py"


if BIDS:

    for number, subjects in chunks(SUBJECTS):

        rule:
            """Register scans of a BIDS dataset to the template's grid; brain and its regions."""
            name:
                f"prepare_{number}"
            input:
                [path for subject in subjects for path in SOURCES[subject].values() if path],
            output:
                scans(subjects),
            log:
                f"{LOGS}/prepare_{number}.log",
            benchmark:
                f"{BENCHMARKS}/prepare_{number}.tsv"
            conda:
                "../../envs/data.yaml"
            threads: 1
            resources:
                mem_mb=growing(8000),
                runtime="1d",
            params:
                study=study_root,
                subjects=subjects,
                files={subject: SOURCES[subject] for subject in subjects},
                settings=config["data"]["bids"],
                shape=config["preprocessing"]["shape"],
            script:
                "../scripts/prepare.py"

    rule carry_covariates:
        """Age, sex and pathology from the participants.tsv of a BIDS dataset."""
        input:
            BIDS_TABLE or [],
        output:
            covariates(SUBJECTS),
        log:
            f"{LOGS}/carry_covariates.log",
        benchmark:
            f"{BENCHMARKS}/carry_covariates.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=30,
        params:
            study=study_root,
            subjects=SUBJECTS,
            settings=config["data"]["bids"],
        script:
            "../scripts/carry_covariates.py"


rule fetch_weights:
    """AlexNet with the LPIPS heads, checked by digest; on the head node."""
    output:
        WEIGHTS,
    log:
        "logs/fetch_weights.log",
    benchmark:
        "logs/fetch_weights.tsv"
    localrule: True
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        downloads=1,
        mem_mb=2000,
        runtime=60,
    script:
        "../scripts/fetch_weights.py"
