"""What an independent observer reads from volumes, where an LDM is asked for covariates."""

# Held-out scans, to know how well it reads, every synthetic set, and the rest of a dataset.
OBSERVED = {}
if CONDITIONED:
    OBSERVED = {
        "original": ("original", TEST),
        **{name: ("synthetic", members.names) for name, members in SETS.items()},
        "refined": ("synthetic-refined", SYNTHETIC),
    }
    FURTHER_OBSERVED = {
        f"further_{number}": (config["dataset"]["variant"], names)
        for number, names in batches(FURTHER)
    }

    rule fit_observer:
        """Fit the reader of covariates to real training scans, of unseen cells too."""
        input:
            volumes("original", TRAIN),
            regions(TRAIN),
            STUDY.participants,
        output:
            network("observer"),
        log:
            f"{LOGS}/fit_observer.log",
        benchmark:
            f"{BENCHMARKS}/fit_observer.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(8000),
            runtime=240,
        params:
            study=study_root,
            subjects=TRAIN,
            covariates=config["ldm"]["conditioning"]["covariates"],
            code=code("fit_observer"),
        script:
            "../scripts/fit_observer.py"

    for job_name, (variant, names) in (OBSERVED | FURTHER_OBSERVED).items():

        rule:
            """Read covariates from volumes."""
            name:
                f"observe_{job_name}"
            input:
                network("observer"),
                volumes(variant, names),
            output:
                [STUDY.measured(variant, name) for name in names],
            log:
                f"{LOGS}/observe_{job_name}.log",
            benchmark:
                f"{BENCHMARKS}/observe_{job_name}.tsv"
            conda:
                "../../envs/torch.yaml"
            threads: 1
            resources:
                mem_mb=growing(8000),
                runtime=240,
            params:
                study=study_root,
                variant=variant,
                names=names,
                code=code("observe"),
            script:
                "../scripts/observe.py"
