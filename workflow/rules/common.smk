"""What the rules share: the study's subjects and small helpers. No rules."""

import yaml
from snakemake.exceptions import WorkflowError

from realdeal.closure import code_version
from realdeal.config import check
from realdeal.data.sources import list_subjects, source_files
from realdeal.data.splits import choose, split
from realdeal.errors import InputError
from realdeal.paper.items import FIGURES, TABLES, figure_volumes
from realdeal.study import Study

try:
    with open(f"{ROOT}/workflow/schemas/config.schema.yaml") as schema:
        check(config, yaml.safe_load(schema), "configuration")
    SUBJECTS = list_subjects(config["data"])
    # The split is a function of names and seed, so the job graph is known before anything runs.
    TRAIN, TEST = split(SUBJECTS, config["preprocessing"]["train_fraction"], config["seed"])
    EVALUATED = choose(TEST, config["evaluation"]["subjects"], config["seed"])
    SOURCES = {subject: source_files(config["data"], subject) for subject in SUBJECTS}
except InputError as error:
    raise WorkflowError(str(error)) from None

DEMO = config["data"]["source"] == "demo"
SYNTHETIC = [f"synthetic-{number:03d}" for number in range(1, config["sampling"]["volumes"] + 1)]

# Originals that are not evaluated, for the original-versus-original rows; unseen ones first.
SPARE = choose(set(TEST) - set(EVALUATED), len(SYNTHETIC), config["seed"])
OTHERS = SPARE + choose(TRAIN, len(SYNTHETIC) - len(SPARE), config["seed"])

STUDY = Study(f"results/{config['study']}")
LOGS = f"logs/{config['study']}"
BENCHMARKS = f"{STUDY.root}/benchmarks"

if not DEMO:
    # HCP scans are fetched to where the demo's are made; those of a folder stay where they are.
    pass


def study_root(wildcards):
    """Where the study lies, for params."""
    return str(STUDY.root)


def chunks(names):
    """Pairs (1, names), (2, names)...: one for each job."""
    size = config["data"]["subjects_per_job"]
    return enumerate((names[i : i + size] for i in range(0, len(names), size)), 1)


def volumes(variant, subjects):
    return [STUDY.volume(variant, subject) for subject in subjects]


def regions(subjects):
    return [STUDY.regions(subject) for subject in subjects]


def stores(kind, subjects):
    return [STUDY.store(kind, subject) for subject in subjects]


def patches(subjects):
    return [STUDY.patches(subject) for subject in subjects]


def source(subject):
    """The scan of a subject and its labels (None if there are none)."""
    if config["data"]["source"] == "folder":
        return SOURCES[subject]
    return {kind: str(STUDY.cohort(name, subject)) for kind, name in (("image", "T1w"), ("labels", "labels"))}


def settings(section, *keys):
    """Some keys of a section of config, so that changing another key reruns nothing."""
    return {key: config[section][key] for key in keys}


def version(script):
    """Changes with the code that a script imports (see realdeal.closure).

    Given as a parameter to the rules behind the trained networks, metrics to report, which are
    cheap to repeat. What a training depends on is repeated for settings and data only: no edit
    of a comment may start days of training. `--forcerun` says otherwise.
    """
    return code_version(f"{ROOT}/workflow/scripts/{script}.py")
