"""How far the variants are from the originals. The rules know variants, not how they were made."""

# Sets of synthetic volumes that are compared with the originals; what is asked for beyond all
# training subjects is only shown.
COMPARED = {"synthetic": SYNTHETIC}
COMPARED |= {name: members.names for name, members in SETS.items() if name != "extrapolation"}
# Conditional MRI compares cell by cell, with all scans of a cell.
REAL = SUBJECTS if SYSTEM == CONDITIONAL_MRI else EVALUATED

LOCATED = {
    "original": (list(dict.fromkeys(EVALUATED + OTHERS + REAL)), []),
    "synthetic": ([], sum(COMPARED.values(), [])),
}

for variant, (subjects, synthetic) in LOCATED.items():

    rule:
        """Draw patch locations once per subject; all its variants are measured there."""
        name:
            f"draw_patches_{variant}"
        input:
            regions(subjects),
            volumes("synthetic", synthetic),
        output:
            patches(subjects + synthetic),
        log:
            f"{LOGS}/draw_patches_{variant}.log",
        benchmark:
            f"{BENCHMARKS}/draw_patches_{variant}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=60,
        params:
            study=study_root,
            subjects=subjects,
            synthetic=synthetic,
            settings=evaluation("patch_size", "patches"),
            seed=config["seed"],
            code=code("draw_patches"),
        script:
            "../scripts/draw_patches.py"


# Whose features a name stands for. What does not depend on the refiner travels in one job, for
# torch loads slowly.
FEATURES = {
    "original": ("original", EVALUATED),
    "original-others": ("original", OTHERS),
    **{name: ("synthetic", members) for name, members in COMPARED.items()},
    "synthetic-refined": ("synthetic-refined", SYNTHETIC),
}
CANDIDATES = [name for name in FEATURES if not name.startswith("original")]
if SYSTEM == CONDITIONAL_MRI:
    FEATURES["original-cells"] = ("original", REAL)
# The volumes of each cell (or of all), for scores that stay within one.
GROUPS = {"original": by_cell("original", REAL)}
GROUPS |= {name: by_cell(*FEATURES[name]) for name in CANDIDATES}

for job_name, names in {
    "references": [name for name in FEATURES if name != "synthetic-refined"],
    "refined": ["synthetic-refined"],
}.items():

    rule:
        """Features of the patches, for FID, coverage and density."""
        name:
            f"extract_features_{job_name}"
        input:
            [volumes(*FEATURES[name]) for name in names],
            [patches(FEATURES[name][1]) for name in names],
            weights=WEIGHTS,
        output:
            [STUDY.features(name) for name in names],
        log:
            f"{LOGS}/extract_features_{job_name}.log",
        benchmark:
            f"{BENCHMARKS}/extract_features_{job_name}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            gpu=1,
            mem_mb=growing(8000),
            runtime=240,
        params:
            study=study_root,
            features={name: FEATURES[name] for name in names},
            settings=evaluation("distribution"),
            code=code("extract_features"),
        script:
            "../scripts/extract_features.py"


for job_name, variants in {
    "references": ["original", *(variant for variant in PAIRED if variant != REFINED)],
    "refined": [REFINED],
}.items():

    rule:
        """Noise of each region: the volume less its ANTs-denoised self."""
        name:
            f"extract_noise_{job_name}"
        input:
            [volumes(variant, EVALUATED) for variant in variants],
            regions(EVALUATED),
        output:
            [STUDY.noise(variant) for variant in variants],
        log:
            f"{LOGS}/extract_noise_{job_name}.log",
        benchmark:
            f"{BENCHMARKS}/extract_noise_{job_name}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=240,
        params:
            study=study_root,
            variants=variants,
            subjects=EVALUATED,
            settings=evaluation("noise"),
            code=code("extract_noise"),
        script:
            "../scripts/extract_noise.py"


rule score_lpips:
    """LPIPS to the original over the shared patches (paper, table 1)."""
    input:
        [volumes(variant, EVALUATED) for variant in ["original", *PAIRED]],
        patches(EVALUATED),
        weights=WEIGHTS,
    output:
        STUDY.scores("lpips"),
    log:
        f"{LOGS}/score_lpips.log",
    benchmark:
        f"{BENCHMARKS}/score_lpips.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=240,
    params:
        study=study_root,
        variants=PAIRED,
        subjects=EVALUATED,
        settings={},  # the patches bring their size
        code=code("score_lpips"),
    script:
        "../scripts/score_lpips.py"


rule score_hog:
    """Distance of HOG descriptors to the original, brain and cerebellum (paper, table 1)."""
    input:
        [volumes(variant, EVALUATED) for variant in ["original", *PAIRED]],
        regions(EVALUATED),
        patches(EVALUATED),
    output:
        STUDY.scores("hog"),
    log:
        f"{LOGS}/score_hog.log",
    benchmark:
        f"{BENCHMARKS}/score_hog.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=240,
    params:
        study=study_root,
        variants=PAIRED,
        subjects=EVALUATED,
        settings=evaluation("hog"),
        code=code("score_hog"),
    script:
        "../scripts/score_hog.py"


rule score_sharpness:
    """Variance of the Laplacian over the shared patches (paper, table 2)."""
    input:
        [volumes(variant, EVALUATED) for variant in ["original", *PAIRED]],
        patches(EVALUATED),
    output:
        STUDY.scores("sharpness"),
    log:
        f"{LOGS}/score_sharpness.log",
    benchmark:
        f"{BENCHMARKS}/score_sharpness.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=240,
    params:
        study=study_root,
        variants=["original", *PAIRED],
        subjects=EVALUATED,
        settings=evaluation("sharpness"),
        code=code("score_sharpness"),
    script:
        "../scripts/score_sharpness.py"


rule score_seam:
    """Whether the borders between refined patches can be seen; not in the paper."""
    input:
        [volumes(variant, EVALUATED) for variant in ["original", *PAIRED]],
        regions(EVALUATED),
    output:
        STUDY.scores("seam"),
    log:
        f"{LOGS}/score_seam.log",
    benchmark:
        f"{BENCHMARKS}/score_seam.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=60,
    params:
        study=study_root,
        variants=["original", *PAIRED],
        subjects=EVALUATED,
        way=config["sampling"]["refiner"],
        shape=config["preprocessing"]["shape"],
        patch_size=config["refiner"]["patch_size"],
        stride=config["refiner"]["stride"],
        code=code("score_seam"),
    script:
        "../scripts/score_seam.py"


rule score_noise:
    """Divergence of the noise from the originals' (paper, tables 1 and 4)."""
    input:
        [STUDY.noise(variant) for variant in ["original", *PAIRED]],
    output:
        STUDY.scores("noise"),
    log:
        f"{LOGS}/score_noise.log",
    benchmark:
        f"{BENCHMARKS}/score_noise.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=60,
    params:
        study=study_root,
        variants=PAIRED,
        subjects=EVALUATED,
        settings=evaluation("noise", "bootstrap"),
        seed=config["seed"],
        code=code("score_noise"),
    script:
        "../scripts/score_noise.py"


rule score_distribution:
    """FID, coverage and density of synthetic against original patches (paper, tables 3, 5, 6)."""
    input:
        [STUDY.features(name) for name in FEATURES],
    output:
        STUDY.scores("distribution"),
    log:
        f"{LOGS}/score_distribution.log",
    benchmark:
        f"{BENCHMARKS}/score_distribution.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(16000),
        runtime=240,
    params:
        study=study_root,
        candidates=CANDIDATES,
        settings=evaluation("distribution", "bootstrap"),
        seed=config["seed"],
        code=code("score_distribution"),
    script:
        "../scripts/score_distribution.py"


if SYSTEM != REALDEAL:

    rule score_diversity:
        """MS-SSIM and 4-G-R-SSIM of pairs of volumes (Brain LDM, table 1)."""
        input:
            volumes("original", REAL),
            [volumes("synthetic", members) for members in COMPARED.values()],
            volumes("synthetic-refined", SYNTHETIC),
        output:
            STUDY.scores("diversity"),
        log:
            f"{LOGS}/score_diversity.log",
        benchmark:
            f"{BENCHMARKS}/score_diversity.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(8000),
            runtime=240,
        params:
            study=study_root,
            groups=GROUPS,
            pairs=config["evaluation"]["pairs"],
            seed=config["seed"],
            code=code("score_diversity"),
        script:
            "../scripts/score_diversity.py"

    rule score_novelty:
        """Likeness of volumes to the nearest scan that the LDM has learnt from."""
        input:
            volumes("original", LEARNT + EVALUATED),
            [volumes("synthetic", members) for members in COMPARED.values()],
            volumes("synthetic-refined", SYNTHETIC),
        output:
            STUDY.scores("novelty"),
        log:
            f"{LOGS}/score_novelty.log",
        benchmark:
            f"{BENCHMARKS}/score_novelty.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(8000),
            runtime=60,
        params:
            study=study_root,
            groups=GROUPS | {"original": by_cell("original", EVALUATED)},
            learnt=by_cell("original", LEARNT),
            code=code("score_novelty"),
        script:
            "../scripts/score_novelty.py"


if SYSTEM == BRAIN_LDM:

    rule score_sampling_time:
        """Seconds for a volume, each way of sampling in turn."""
        input:
            network("autoencoder"),
            network("ldm"),
            STUDY.participants,
        output:
            STUDY.scores("sampling_time"),
        log:
            f"{LOGS}/score_sampling_time.log",
        benchmark:
            f"{BENCHMARKS}/score_sampling_time.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: config["autoencoder"]["threads"]  # as many as any job has: alone on a laptop
        resources:
            gpu=1,
            mem_mb=growing(16000),
            runtime=240,
        params:
            study=study_root,
            ways={way(w): config["sampling"]["ldm"] | w for w in WAYS},
            volumes=config["sampling_study"]["timed"],
            seed=config["seed"],
            asked_of=LEARNT,
        script:
            "../scripts/score_sampling_time.py"


if SYSTEM == CONDITIONAL_MRI:

    rule score_cells:
        """FID of every pathology in every modality."""
        input:
            [STUDY.features(name) for name in ["original-cells", *CANDIDATES]],
        output:
            STUDY.scores("cells"),
        log:
            f"{LOGS}/score_cells.log",
        benchmark:
            f"{BENCHMARKS}/score_cells.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(8000),
            runtime=240,
        params:
            study=study_root,
            candidates=CANDIDATES,
            groups=GROUPS,
            seed=config["seed"],
            code=code("score_cells"),
        script:
            "../scripts/score_cells.py"

    rule score_reconstruction:
        """PSNR and SSIM of the autoencoder's reconstructions."""
        input:
            volumes("original", EVALUATED),
            volumes("reconstructed", EVALUATED),
        output:
            STUDY.scores("reconstruction"),
        log:
            f"{LOGS}/score_reconstruction.log",
        benchmark:
            f"{BENCHMARKS}/score_reconstruction.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=60,
        params:
            study=study_root,
            subjects=EVALUATED,
            code=code("score_reconstruction"),
        script:
            "../scripts/score_reconstruction.py"
