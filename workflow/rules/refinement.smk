"""Ways of refining against each other: `snakemake refinement_study`. Not in the paper."""

WAYS = [config["sampling"]["refiner"] | way for way in config["refinement_study"]["ways"]]
STUDIED = EVALUATED[: config["refinement_study"]["subjects"]]

for way in WAYS:

    rule:
        """Refine reconstructions one way, and count what it costs."""
        name:
            f"refine_way_{way_name(way).replace('-', '_')}"
        input:
            network("refiner"),
            volumes("reconstructed", STUDIED),
        output:
            [STUDY.way(way_name(way)) / f"{subject}.nii.gz" for subject in STUDIED],
            STUDY.way(way_name(way)) / "cost.json",
        log:
            f"{LOGS}/refine_way_{way_name(way)}.log",
        benchmark:
            f"{BENCHMARKS}/refine_way_{way_name(way)}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            gpu=1,
            mem_mb=growing(16000),
            runtime="2d",
        params:
            study=study_root,
            subjects=STUDIED,
            way=way,
            seed=config["seed"],
        script:
            "../scripts/refine_way.py"


rule refinement_study:
    """Measure all ways of refining; table and figure of speed and quality."""
    input:
        [STUDY.way(way_name(way)) / "cost.json" for way in WAYS],
        [STUDY.way(way_name(way)) / f"{subject}.nii.gz" for way in WAYS for subject in STUDIED],
        volumes("original", STUDIED),
        volumes("reconstructed", STUDIED),
        regions(STUDIED),
        ancient(STUDY.provenance),  # names what made it; alone, it is no reason to measure again
        [network(name) for name in behind("reconstructed")],
        weights=WEIGHTS,
    output:
        STUDY.way() / "scores.csv",
        STUDY.way() / "study.md",
        STUDY.way() / "study.png",
    log:
        f"{LOGS}/refinement_study.log",
    benchmark:
        f"{BENCHMARKS}/refinement_study.tsv"
    conda:
        "../../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=240,
    params:
        study=study_root,
        subjects=STUDIED,
        ways=WAYS,
        settings=config["evaluation"],
        seed=config["seed"],
        patch_size=config["refiner"]["patch_size"],
        stride=config["refiner"]["stride"],
        networks=behind("reconstructed"),
        code=code("refinement_study"),
    script:
        "../scripts/refinement_study.py"
