"""Synthetic volumes, and the refinement of coarse ones."""

if EXTERNAL:

    rule import_coarse:
        """Another generator's volumes on the study's grid and intensity scale."""
        input:
            list(COARSE.values()),
            like=volumes("original", TRAIN[:10]),  # lend grid and brightness
        output:
            volumes("synthetic", SYNTHETIC),
        log:
            f"{LOGS}/import_coarse.log",
        benchmark:
            f"{BENCHMARKS}/import_coarse.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=60,
        params:
            study=study_root,
            files=COARSE,
            intensity=config["sampling"]["external"]["intensity"],
        script:
            "../scripts/import_coarse.py"

else:

    for number, names in batches(SYNTHETIC):

        rule:
            """Draw latents and decode them to synthetic volumes."""
            name:
                f"sample_{number}"
            input:
                network("autoencoder"),
                network("ldm"),
                PARTICIPANTS_ASKED,
                like=STUDY.volume("original", TRAIN[0]),  # lends its affine
            output:
                volumes("synthetic", names),
                asked(names) if CONDITIONED else [],
            log:
                f"{LOGS}/sample_{number}.log",
            benchmark:
                f"{BENCHMARKS}/sample_{number}.tsv"
            priority: 1
            conda:
                "../../envs/torch.yaml"
            threads: 1
            resources:
                gpu=1,
                mem_mb=growing(16000),
                runtime=240,
            params:
                study=study_root,
                names=names,
                settings=config["sampling"]["ldm"],
                seed=config["seed"],
                asked_of=TRAIN if CONDITIONED else [],
            script:
                "../scripts/sample.py"


for variant, cases in (("reconstructed", EVALUATED), ("synthetic", SYNTHETIC)):

    for number, subjects in batches(cases):

        rule:
            """Refine coarse volumes patch by patch from the centre outward (paper, figure 2)."""
            name:
                f"refine_{variant}_{number}"
            input:
                network("refiner"),
                volumes(variant, subjects),
            output:
                volumes(f"{variant}-refined", subjects),
            log:
                f"{LOGS}/refine_{variant}_{number}.log",
            benchmark:
                f"{BENCHMARKS}/refine_{variant}_{number}.tsv"
            conda:
                "../../envs/torch.yaml"
            threads: 1
            resources:
                gpu=1,
                mem_mb=growing(16000),
                runtime="2d",
            params:
                study=study_root,
                variant=variant,
                subjects=subjects,
                settings=config["sampling"]["refiner"],
                seed=config["seed"],
            script:
                "../scripts/refine.py"
