"""What the rules share: the study's subjects and small helpers. No rules."""

import yaml
from snakemake.exceptions import WorkflowError

from realdeal.bundle.files import bundle_files
from realdeal.closure import code_version, library_version
from realdeal.config import check
from realdeal.data import bids, hcp
from realdeal.data.cells import assign, examples, has_lesions, people
from realdeal.data.sources import coarse_files, list_subjects, source_files
from realdeal.data.splits import choose, split
from realdeal.dataset.names import check_distinct, further_names, numbered, subject_id
from realdeal.errors import InputError
from realdeal.memory import growing
from realdeal.paper.items import FIGURES, TABLES, figure_volumes
from realdeal.study import Study, way_name
from realdeal.systems import (
    BRAIN_LDM,
    CONDITIONAL_MRI,
    ITEMS,
    REALDEAL,
    check_system,
    ldms,
    network_settings,
    sample_sets,
    seen_cells,
    way,
)

try:
    with open(f"{ROOT}/workflow/schemas/config.schema.yaml") as schema:
        check(config, yaml.safe_load(schema), "configuration")
    STUDY = Study(f"results/{config['study']}")
    check_system(config)
    DEMO = config["data"]["source"] == "demo"
    SUBJECTS = list_subjects(config["data"])
    LEFT_OUT = {}  # subject: what it lacks
    if config["data"]["source"] == "hcp":
        # What the jobs are depends on what the bucket has. So it is asked here, before they are
        # planned, once for each subject: as Snakemake itself asks for files in storage. A rule
        # would be too late, and behind a checkpoint no chunk of subjects could be a rule.
        SUBJECTS, LEFT_OUT = hcp.available(SUBJECTS, config["data"]["hcp"], STUDY.hcp_inventory)
    # The split is a function of names and seed, so the job graph is known before anything runs.
    # So are pathology and modality of each demo subject, of its number and the seed.
    CELLS, EXAMPLES, PEOPLE = {}, {}, None
    if config["data"]["source"] == "demo":
        CELLS = assign(SUBJECTS, config["seed"], config["data"]["demo"])
        PEOPLE = people(SUBJECTS, config["data"]["demo"])
        EXAMPLES = examples(CELLS, config["data"]["demo"])  # a subject of each
    if config["data"]["source"] == "bids":
        CELLS = bids.diagnoses(config["data"]["bids"], SUBJECTS)
        PEOPLE = bids.people(config["data"]["bids"], SUBJECTS)
    TRAIN, TEST = split(
        SUBJECTS,
        config["preprocessing"]["train_fraction"],
        config["seed"],
        strata=CELLS if DEMO else None,
        people=PEOPLE,
    )
    EVALUATED = choose(TEST, config["evaluation"]["subjects"], config["seed"])
    # Autoencoder, LDM and refiner are trained on LEARNT; the observer that judges them on TRAIN.
    LEARNT = seen_cells(TRAIN, CELLS, config["preprocessing"]["unseen"])
    SOURCES = {subject: source_files(config["data"], subject) for subject in SUBJECTS}
    BIDS = config["data"]["source"] == "bids"
    BIDS_TABLE = bids.table(config["data"]["bids"]) if BIDS else None
    NOTES = bids.notes(config["data"]["bids"], SUBJECTS) if BIDS else []
    EXTERNAL = config["sampling"]["coarse"] == "external"
    BUNDLE = config["ldm"]["source"] == "monai-bundle"
    BUNDLE_FILES = bundle_files(config) if BUNDLE else []
    TRAINED = not EXTERNAL and not BUNDLE  # an LDM of this study makes the synthetic volumes
    # The scores use the first synthetic volumes, a dataset maybe more: those of FURTHER.
    SYNTHETIC = numbered("synthetic", config["sampling"]["volumes"])
    DATASET = numbered("synthetic", config["dataset"]["subjects"])
    FURTHER = further_names(len(SYNTHETIC), len(DATASET), config["sampling"]["volumes_per_job"])
    if EXTERNAL:
        COARSE = coarse_files(
            config["sampling"]["external"], config["sampling"]["volumes"], config["seed"]
        )
        SYNTHETIC = DATASET = list(COARSE)
        FURTHER = []
        check_distinct(DATASET)
    SETS = sample_sets(config, SYNTHETIC, FURTHER) if TRAINED else {}
    LDMS = ldms(config) if TRAINED else {}
except InputError as error:
    raise WorkflowError(str(error)) from None


def modality(subject):
    """Which kind of scan a subject is."""
    return CELLS[subject][1] if CELLS else "T1w"


SYSTEM = config["system"]
MODALITIES = sorted({modality(subject) for subject in TRAIN})  # of the scans that train
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
if BUNDLE:
    NOTES.append(
        "The synthetic volumes come from a MONAI bundle that was trained on UK Biobank (ldm.bundle), "
        "not from an LDM of this study."
    )

# The tables and figures that `all` makes.
RESULT_TABLES = [STUDY.table(number) for number in TABLES]
RESULT_FIGURES = [STUDY.figure(number) for number in FIGURES]
if SYSTEM != REALDEAL:
    RESULT_TABLES = [STUDY.item(name, "csv") for name in ITEMS[SYSTEM]["tables"]]
    RESULT_FIGURES = [STUDY.item(name) for name in ITEMS[SYSTEM]["figures"]]
RESULTS = RESULT_TABLES + RESULT_FIGURES

# Ways of sampling that are compared and timed.
WAYS = [*config["sampling_study"]["ways"], config["sampling"]["ldm"]]

# What a conditioned LDM is told comes from the table of participants.
CONDITIONED = TRAINED and config["ldm"]["conditioning"] is not None
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


def batches(*groups):
    """The same for jobs that take a GPU, none of which has names of two groups."""
    size = config["sampling"]["volumes_per_job"]
    return enumerate((part for names in groups for _, part in chunks(names, size)), 1)


def source(subject):
    """The scan of a subject and its labels (None if there are none)."""
    if config["data"]["source"] == "folder":
        return SOURCES[subject]
    return {"image": str(scan(subject)), "labels": str(STUDY.cohort("labels", subject))}


def scan(subject):
    """The scan of a subject that the workflow makes or fetches, named by its modality."""
    return STUDY.cohort(modality(subject), subject)


def scans(subjects):
    """All source files of some subjects."""
    return [path for subject in subjects for path in source(subject).values() if path]


def digested():
    """The files to be digested, by job: {subject: {kind: file}}; those of BIDS as they came."""
    came = {subject: SOURCES[subject] if BIDS else source(subject) for subject in SUBJECTS}
    found = {job: {name: came[name] for name in names} for job, names in chunks(SUBJECTS)}
    if EXTERNAL:
        found["external"] = {name: {"coarse": str(path)} for name, path in COARSE.items()}
    return found


def covariates(subjects):
    """What is known of demo and BIDS subjects: age, sex..."""
    return [STUDY.covariates(subject) for subject in subjects]


def volumes(variant, subjects):
    return [STUDY.volume(variant, subject) for subject in subjects]


def asked(names):
    """What a conditioned LDM or a bundle was asked for, for each synthetic volume."""
    return [STUDY.asked(name) for name in names]


def measured(variant, names):
    """What is measured on each volume, to be compared with what a conditioned LDM was asked for."""
    return [STUDY.measured(variant, name) for name in names] if CONDITIONED else []


def cell_of(name):
    """The pathology x modality of a subject or a synthetic volume; `all` in other studies."""
    if SYSTEM != CONDITIONAL_MRI:
        return "all"
    if name in CELLS:
        return " x ".join(map(str, CELLS[name]))
    asked = next(members.asked[name] for members in SETS.values() if name in members.asked)
    return f"{asked['pathology']} x {asked['modality']}"


def by_cell(variant, names):
    """{cell: [[variant, name], ...]}."""
    found = {}
    for name in names:
        found.setdefault(cell_of(name), []).append([variant, name])
    return dict(sorted(found.items()))


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
    return ["autoencoder", *LDMS, "refiner"]


def behind(variant):
    """The networks that a variant rests on."""
    generator = ["ldm"] * (TRAINED and variant.startswith("synthetic"))
    return ["autoencoder", *generator, "refiner"]


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
