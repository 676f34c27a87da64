"""What the rules share: the study's subjects and small helpers. No rules."""

import yaml
from snakemake.exceptions import WorkflowError

from realdeal.closure import code_version
from realdeal.config import check
from realdeal.data import hcp
from realdeal.data.bids import notes, table
from realdeal.data.cells import assign, examples, has_lesions
from realdeal.data.sources import coarse_files, list_subjects, source_files
from realdeal.data.splits import choose, split
from realdeal.errors import InputError
from realdeal.memory import growing
from realdeal.paper.items import FIGURES, TABLES, figure_volumes
from realdeal.study import Study, way_name

try:
    with open(f"{ROOT}/workflow/schemas/config.schema.yaml") as schema:
        check(config, yaml.safe_load(schema), "configuration")
    STUDY = Study(f"results/{config['study']}")
    SUBJECTS = list_subjects(config["data"])
    LEFT_OUT = {}  # subject: what it lacks
    if config["data"]["source"] == "hcp":
        # What the jobs are depends on what the bucket has. So it is asked here, before they are
        # planned, once for each subject: as Snakemake itself asks for files in storage. A rule
        # would be too late, and behind a checkpoint no chunk of subjects could be a rule.
        SUBJECTS, LEFT_OUT = hcp.available(SUBJECTS, config["data"]["hcp"], STUDY.hcp_inventory)
    # The split is a function of names and seed, so the job graph is known before anything runs.
    TRAIN, TEST = split(SUBJECTS, config["preprocessing"]["train_fraction"], config["seed"])
    EVALUATED = choose(TEST, config["evaluation"]["subjects"], config["seed"])
    # Pathology and modality of each demo subject are a function of its number and the seed.
    CELLS, EXAMPLES = {}, {}
    if config["data"]["source"] == "demo":
        CELLS = assign(SUBJECTS, config["seed"], config["data"]["demo"])
        EXAMPLES = examples(CELLS, config["data"]["demo"])  # a subject of each
    SOURCES = {subject: source_files(config["data"], subject) for subject in SUBJECTS}
    BIDS = config["data"]["source"] == "bids"
    BIDS_TABLE = table(config["data"]["bids"]) if BIDS else None
    NOTES = notes(config["data"]["bids"], SUBJECTS) if BIDS else []
    EXTERNAL = config["sampling"]["coarse"] == "external"
    SYNTHETIC = [
        f"synthetic-{number:03d}" for number in range(1, config["sampling"]["volumes"] + 1)
    ]
    if EXTERNAL:
        COARSE = coarse_files(
            config["sampling"]["external"], config["sampling"]["volumes"], config["seed"]
        )
        SYNTHETIC = list(COARSE)
except InputError as error:
    raise WorkflowError(str(error)) from None

DEMO = config["data"]["source"] == "demo"
LESIONS = DEMO and has_lesions(config["data"]["demo"])

# Originals that are not evaluated, for the original-versus-original rows; unseen ones first.
OTHERS = choose(set(TEST) - set(EVALUATED), len(SYNTHETIC), config["seed"])
OTHERS += choose(TRAIN, len(SYNTHETIC) - len(OTHERS), config["seed"])

# Variants that stand beside the originals of the same subjects; a second scan is the floor.
REFINED = "reconstructed-refined"
PAIRED = ["reconstructed", REFINED] + ["rescan"] * DEMO
RESCANNED = EVALUATED if DEMO else []

# What a reader of the tables must know about the study, beside what a BIDS dataset lacks.
if DEMO:
    NOTES.append(
        "The cohort is made from template anatomy, not scanned: compare gap closure with the "
        "paper, not values."
    )
if config["refiner"]["network"]["parameterisation"] != "epsilon":
    NOTES.append(
        "The refiner's noise prediction is preconditioned on the residual to the coarse patch; "
        "the paper's network predicts the noise plainly."
    )
if EXTERNAL:
    NOTES.append(
        "The synthetic volumes come from another generator (sampling.external), not from the LDM."
    )

# What a conditioned LDM is told comes from the table of participants.
CONDITIONED = config["ldm"]["conditioning"] is not None
PARTICIPANTS_ASKED = [STUDY.participants] if CONDITIONED else []
LOGS = f"logs/{config['study']}"
BENCHMARKS = f"{STUDY.root}/benchmarks"
WEIGHTS = "resources/weights/alexnet.safetensors"


def study_root(wildcards):
    """Where the study lies, for params."""
    return str(STUDY.root)


def chunks(names, size=config["data"]["subjects_per_job"]):
    """Pairs (1, names), (2, names)...: one for each job."""
    return enumerate((names[i : i + size] for i in range(0, len(names), size)), 1)


def batches(names):
    """The same for jobs that take a GPU."""
    return chunks(names, config["sampling"]["volumes_per_job"])


def source(subject):
    """The scan of a subject and its labels (None if there are none)."""
    if config["data"]["source"] == "folder":
        return SOURCES[subject]
    return {"image": str(scan(subject)), "labels": str(STUDY.cohort("labels", subject))}


def scan(subject):
    """The scan of a subject that the workflow makes or fetches, named by its modality."""
    modality = CELLS[subject][1] if DEMO else "T1w"
    return STUDY.cohort(modality, subject)


def scans(subjects):
    """All source files of some subjects."""
    return [path for subject in subjects for path in source(subject).values() if path]


def covariates(subjects):
    """What is known of demo and BIDS subjects: age, sex..."""
    return [STUDY.covariates(subject) for subject in subjects]


def volumes(variant, subjects):
    return [STUDY.volume(variant, subject) for subject in subjects]


def asked(names):
    """What a conditioned LDM was asked for, for each synthetic volume."""
    return [STUDY.root / "volumes" / "synthetic" / f"{name}.json" for name in names]


def regions(subjects):
    return [STUDY.regions(subject) for subject in subjects]


def stores(kind, subjects):
    return [STUDY.store(kind, subject) for subject in subjects]


def patches(subjects):
    return [STUDY.patches(subject) for subject in subjects]


def network(name):
    """Weights and description of a network."""
    return [STUDY.model(name), STUDY.model(name).with_suffix(".json")]


def networks():
    """The names of the study's networks."""
    return ["autoencoder", "refiner"] if EXTERNAL else ["autoencoder", "ldm", "refiner"]


def network_settings(name):
    """What a training depends on: not on the number of threads."""
    return {key: value for key, value in config[name].items() if key != "threads"}


def evaluation(*keys):
    """Some keys of the evaluation, so that changing another key repeats nothing."""
    return {key: config["evaluation"][key] for key in keys}


def code(script):
    """A version of all the library code that a script imports (see realdeal.closure).

    Given as a parameter to the rules behind the trained networks, from metrics to report, which
    are cheap to repeat. What a training reads or does is repeated for settings and data only:
    no edit of a comment may start days of training. `--forcerun` does it on request.
    """
    return code_version(f"{ROOT}/workflow/scripts/{script}.py")
