# RealDeal: from a cohort of brain scans to the paper's tables and figures.
#
# All files of a study lie below results/<study> (src/realdeal/study.py); each is a target:
#   cohort/<subject>_{T1w,labels,truth,rescan}.nii.gz   scans that the workflow made or fetched
#                       (demo: T1w, T1ce, T2w, FLAIR or PD; lesions, where there are pathologies)
#   hcp_inventory.tsv                                   what HCP's bucket has of each subject
#   participants.tsv                                    split, covariates
#   volumes/<variant>/<subject>.nii.gz                  values in [-1, 1]; variant is original,
#                       reconstructed, reconstructed-refined, synthetic, synthetic-refined, rescan
#   regions/<subject>.nii.gz                            1 white matter, 2 grey matter,
#                                                       3 ventricles, 4 cerebellum, 5 other brain
#   stores/{original,coarse,latents}/<subject>.npy      arrays that the trainings read
#   models/{autoencoder,ldm,refiner}.{safetensors,json} training/{autoencoder,ldm,refiner}.csv
#   quality/{<subject>.png,<subject>.json,quality.csv}
#   patches/<subject>.npz  features/<variant>.npz  noise/<variant>.npz
#   scores/{lpips,hog,noise,sharpness,seam,distribution}.csv
#   tables/table{1..6}.{csv,md,tex}  figures/figure{3..10}.png  report.html
#   digests/<chunk>.tsv  provenance.json                what made them, which they name
#   measured/<variant>/<name>.json                      what the observer reads from a volume
#   {tables,figures}/<name>.{csv,md,tex,png}            of Brain LDM and Conditional MRI
#   figures/{realism,cohort}.png                        the demo cohort
#   refinement/{scores.csv,study.md,study.png}          of snakemake refinement_study
#   dataset/                                            of snakemake dataset (BIDS derivative)
# Logs lie below logs/<study>, run times below results/<study>/benchmarks.

import sys

from snakemake.utils import min_version

min_version("9.19")

ROOT = workflow.current_basedir.get_path_or_uri(secret_free=True)
sys.path.insert(0, f"{ROOT}/src")  # the rules and, in every environment, the scripts import it


configfile: f"{ROOT}/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/observe.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/refinement.smk"
include: "workflow/rules/dataset.smk"


localrules:
    all,
    tables,
    figures,
    dataset,


rule all:
    """Everything: the report, and with it all tables and figures (the default target)."""
    default_target: True
    input:
        STUDY.report,
        RESULTS,


rule tables:
    """The tables of the study's system; each alone is table1 to table6, or table_<name>."""
    input:
        RESULT_TABLES,


rule figures:
    """The figures of the study's system; each alone is figure3 to figure10, or figure_<name>."""
    input:
        RESULT_FIGURES,


rule dataset:
    """Synthetic subjects as a BIDS dataset (docs/dataset.md)."""
    input:
        rules.describe_dataset.output,


onstart:
    # Two habits of Snakemake that, on 640 scans, kept a core busy for half of the time.
    # To start at most 100 jobs a second it looks at all files of all ready jobs again a second
    # after each time it did, whatever made it do so: once more a second for every job that has
    # ended. Without a limit it looks when a job ends; one that someone chose is kept.
    limiter = getattr(workflow.scheduler, "job_rate_limiter", None)
    if limiter and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None
    # For each output of a job it takes the checksums of all its inputs: here of tables only.
    workflow.persistence.max_checksum_file_size = 10_000
