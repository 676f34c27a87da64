"""The three networks. An interrupted training continues from its state in results/<study>/states,
which is no declared output, because Snakemake deletes those of a failed job."""


rule train_autoencoder:
    """Train the autoencoder on the originals (paper, supplement 1)."""
    input:
        stores("original", LEARNT),
    output:
        network("autoencoder"),
        STUDY.history("autoencoder"),
        STUDY.picture("autoencoder"),
    log:
        f"{LOGS}/train_autoencoder.log",
    benchmark:
        f"{BENCHMARKS}/train_autoencoder.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: config["autoencoder"]["threads"]
    resources:
        gpu=config["autoencoder"]["training"]["devices"],
        mem_mb=growing(16000),
        runtime="2d",
    params:
        study=study_root,
        subjects=LEARNT,
        settings=network_settings(config["autoencoder"]),
        seed=config["seed"],
    script:
        "../scripts/train_autoencoder.py"


for number, subjects in chunks(SUBJECTS):
    shown = [subject for subject in subjects if subject in EVALUATED]

    rule:
        """Encode originals to latents and decode them to coarse volumes."""
        name:
            f"reconstruct_{number}"
        input:
            network("autoencoder"),
            volumes("original", subjects),
            stores("original", subjects),
        output:
            stores("latents", subjects),
            stores("coarse", subjects),
            volumes("reconstructed", shown),
        log:
            f"{LOGS}/reconstruct_{number}.log",
        benchmark:
            f"{BENCHMARKS}/reconstruct_{number}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            gpu=1,
            mem_mb=growing(8000),
            runtime=120,
        params:
            study=study_root,
            subjects=subjects,
            evaluated=shown,
        script:
            "../scripts/reconstruct.py"


for name, settings in LDMS.items():

    rule:
        """Train the latent diffusion model (paper, supplement 1), or an ablation of it."""
        name:
            f"train_{name}"
        input:
            stores("latents", LEARNT),
            PARTICIPANTS_ASKED,
        output:
            network(name),
            STUDY.history(name),
            STUDY.picture(name),
        log:
            f"{LOGS}/train_{name}.log",
        benchmark:
            f"{BENCHMARKS}/train_{name}.tsv"
        priority: 1  # sampling and its refinement wait for it
        conda:
            "../../envs/torch.yaml"
        threads: config["ldm"]["threads"]
        resources:
            gpu=config["ldm"]["training"]["devices"],
            mem_mb=growing(16000),
            runtime="4d",
        params:
            study=study_root,
            subjects=LEARNT,
            settings=settings,
            seed=config["seed"],
            name=name,
        script:
            "../scripts/train_ldm.py"


rule train_refiner:
    """Train the patch-based refiner on pairs of original and coarse patches (paper, section 2)."""
    input:
        stores("original", LEARNT),
        stores("coarse", LEARNT),
        STUDY.volume("original", LEARNT[0]),  # tells the voxel size
    output:
        network("refiner"),
        STUDY.history("refiner"),
        STUDY.picture("refiner"),
    log:
        f"{LOGS}/train_refiner.log",
    benchmark:
        f"{BENCHMARKS}/train_refiner.tsv"
    priority: 1
    conda:
        "../../envs/torch.yaml"
    threads: config["refiner"]["threads"]
    resources:
        gpu=config["refiner"]["training"]["devices"],
        mem_mb=growing(16000),
        runtime="7d",
    params:
        study=study_root,
        subjects=LEARNT,
        settings=network_settings(config["refiner"]),
        seed=config["seed"],
    script:
        "../scripts/train_refiner.py"
