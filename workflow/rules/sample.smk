"""Synthetic volumes, and the refinement of coarse ones."""

if EXTERNAL:

    rule import_coarse:
        """Another generator's volumes on the study's grid and intensity scale."""
        input:
            list(COARSE.values()),
            like=volumes("original", LEARNT[:10]),  # lend grid and brightness
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

elif BUNDLE:

    for number, names in batches(SYNTHETIC, FURTHER):

        rule:
            """Draw volumes from a published MONAI bundle (docs/bundle.md)."""
            name:
                f"sample_{number}"
            input:
                BUNDLE_FILES,
                like=STUDY.volume("original", LEARNT[0]),  # lends its grid
            output:
                volumes("synthetic", names),
                asked(names),
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
                mem_mb=growing(32000),
                runtime=240,
            params:
                study=study_root,
                bundle=config["ldm"]["bundle"],
                names=names,
                settings=config["sampling"]["ldm"],
                seed=config["seed"],
            script:
                "../scripts/sample_bundle.py"

else:

    for name, (members, settings, model, wanted) in SETS.items():

        groups = [members, FURTHER] if name == "synthetic" else [members]
        for number, names in batches(*groups):
            job_name = f"{number}" if name == "synthetic" else f"{name}_{number}"

            rule:
                """Draw latents and decode them to synthetic volumes."""
                name:
                    f"sample_{job_name}"
                input:
                    network("autoencoder"),
                    network(model),
                    PARTICIPANTS_ASKED,
                    like=STUDY.volume("original", LEARNT[0]),  # lends its affine
                output:
                    volumes("synthetic", names),
                    asked(names) if CONDITIONED else [],
                log:
                    f"{LOGS}/sample_{job_name}.log",
                benchmark:
                    f"{BENCHMARKS}/sample_{job_name}.tsv"
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
                    settings=settings,
                    seed=config["seed"],
                    model=model,
                    asked={name: wanted[name] for name in names if name in wanted},
                    asked_of=LEARNT if CONDITIONED else [],
                script:
                    "../scripts/sample.py"


for variant, groups in (("reconstructed", [EVALUATED]), ("synthetic", [SYNTHETIC, FURTHER])):

    for number, subjects in batches(*groups):

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
