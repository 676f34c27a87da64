"""Synthetic subjects as a BIDS dataset: `snakemake dataset`. Not in the paper."""

VARIANT = config["dataset"]["variant"]
MADE_REFINED = VARIANT == "synthetic-refined"
ASKED = CONDITIONED or BUNDLE

# How the subjects were made, for their sidecars.
MAKING = {
    "seed": config["seed"],
    "networks": ["autoencoder", "ldm"] * TRAINED + ["refiner"] * MADE_REFINED,
    "sampling": None if EXTERNAL else config["sampling"]["ldm"],
    "refinement": config["sampling"]["refiner"] if MADE_REFINED else None,
}

for number, names in chunks(DATASET):

    rule:
        """Images and sidecars of some subjects."""
        name:
            f"write_subjects_{number}"
        input:
            [network(name) for name in MAKING["networks"]],
            volumes(VARIANT, names),
            measured(VARIANT, names),
            asked(names) if ASKED else [],
        output:
            # Folders, because the modality that a volume was asked for is part of its name.
            [directory(STUDY.dataset(subject_id(name))) for name in names],
        log:
            f"{LOGS}/write_subjects_{number}.log",
        benchmark:
            f"{BENCHMARKS}/write_subjects_{number}.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=60,
        params:
            study=study_root,
            names=names,
            variant=VARIANT,
            making=MAKING,
            modalities=MODALITIES,
            asked=ASKED,
            measured=CONDITIONED,
            code=code("write_subjects"),
        script:
            "../scripts/write_subjects.py"


rule describe_dataset:
    """Tables, description, citation and checksums of the dataset."""
    input:
        [STUDY.dataset(subject_id(name)) for name in DATASET],
        citation=f"{ROOT}/CITATION.cff",
    output:
        STUDY.dataset("participants.tsv"),
        STUDY.dataset("participants.json"),
        STUDY.dataset("dataset_description.json"),
        STUDY.dataset("README.md"),
        STUDY.dataset("CITATION.cff"),
        STUDY.dataset(".bidsignore"),
        STUDY.dataset("SHA256SUMS"),
    log:
        f"{LOGS}/describe_dataset.log",
    benchmark:
        f"{BENCHMARKS}/describe_dataset.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=60,
    params:
        study=study_root,
        names=DATASET,
        name=config["study"],
        source=config["data"]["source"],
        variant=VARIANT,
        external=EXTERNAL,
        code=code("describe_dataset"),
    script:
        "../scripts/describe_dataset.py"
