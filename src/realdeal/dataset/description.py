"""What stands at the top of a BIDS dataset of synthetic subjects."""

import textwrap
from pathlib import Path

import pandas as pd
import yaml

import realdeal
from realdeal.closure import code_commit
from realdeal.dataset.names import subject_id
from realdeal.errors import InputError
from realdeal.files import atomic_path, read_json, write_json, write_table
from realdeal.provenance import file_digest

BIDS_VERSION = "1.11.1"  # of the schema in bids-validator-deno 3.0.2, which the tests run
CHECKSUMS = "SHA256SUMS"

# What the covariates of participants.tsv are; Units as BIDS writes them.
COVARIATES = {
    "age": {"Description": "age", "Units": "year"},
    "sex": {"Description": "sex", "Levels": {"F": "female", "M": "male"}},
    "pathology": {"Description": "diagnosis"},
    "modality": {"Description": "kind of scan"},
    "ventricular_volume": {"Description": "volume of the lateral ventricles", "Units": "mm^3"},
    "brain_volume": {"Description": "volume of the brain", "Units": "mm^3"},
}

# What the generator learnt from, and how those scans lie, by the config's data.source.
COHORTS = {
    "demo": (
        "a made-up cohort: deformations of packaged template anatomy (the ICBM 152 2009a average "
        "of 152 brains) with simulated contrast, noise and disease. Nobody was scanned for it, "
        "and the brains vary less than people's do; good for trying software, not for findings. "
        "nilearn, which packages the template, gives its licence as unknown.",
        "the template's (MNI152)",
    ),
    "hcp": (
        "scans of HCP Young Adult. The HCP Open Access Data Use Terms bind who works with those "
        "scans; whether they allow to hand out what a model learnt from them is yours to clear.",
        "HCP's preprocessing: rigidly aligned to the anterior and posterior commissures",
    ),
    "bids": (
        "the scans of a BIDS dataset. Its licence and consents decide whether what a model "
        "learnt from them may be handed out.",
        "the template's (MNI152), to which the scans were aligned rigidly, not warped",
    ),
    "folder": (
        "a folder of scans. Their licence and consents decide whether what a model learnt from "
        "them may be handed out.",
        "whatever the training scans had",
    ),
}

REFINED = {
    "synthetic": "as the generator made them (coarse, not refined)",
    "synthetic-refined": "refined patch by patch, so that they have the detail and noise of scans",
}


def write_description(study, names, name, source, variant, external, citation):
    """Write the tables, descriptions and checksums of study.dataset(), whose subjects are there.

    names: the synthetic volumes whose subjects make up the dataset. name: of the study. source:
    the config's data.source. variant: synthetic or synthetic-refined. external: whether another
    generator made the coarse volumes. citation: CITATION.cff of this workflow, whose authors and
    references are taken over. InputError if a subject is missing or there are others.
    """
    subjects = [subject_id(volume) for volume in names]
    _check_folders(study, subjects)
    title = f"Synthetic brain scans of the study {name}"
    asked, measured = _tables(study, subjects)
    write_table(study.dataset("participants.tsv"), _participants(subjects, asked, measured))
    write_json(study.dataset("participants.json"), _columns(asked, measured))
    write_json(study.dataset("dataset_description.json"), _description(title, variant, external))
    _write_text(study.dataset("CITATION.cff"), _citation(citation, title))
    readme = _readme(title, len(names), source, variant, external, bool(asked.columns.size))
    _write_text(study.dataset("README.md"), readme)
    _write_text(study.dataset(".bidsignore"), f"{CHECKSUMS}\n")
    _write_text(study.dataset(CHECKSUMS), _checksums(study.dataset()))


def _check_folders(study, subjects):
    """InputError if a subject has no folder, or there is one of a subject that is not asked for."""
    found = {path.name for path in study.dataset().glob("sub-*")}
    if missing := [subject for subject in subjects if subject not in found]:
        raise InputError(f"{study.dataset(missing[0])}: no such folder; run the workflow again")
    if others := sorted(found - set(subjects)):
        raise InputError(
            f"{study.dataset()}: {len(others)} of its subjects were left by other settings "
            f"({others[0]}...); delete them, or ask for them (dataset.subjects)"
        )


def _tables(study, subjects):
    """Asked and measured covariates of the subjects, one row each, from their sidecars."""
    sidecars = []
    for subject in subjects:
        found = sorted((study.dataset(subject) / "anat").glob("*.json"))
        if len(found) != 1:
            raise InputError(f"{study.dataset(subject)}: is damaged; delete it and run again")
        sidecars.append(read_json(found[0]))
    # As objects, so that a missing value does not turn the whole numbers of a column to 37.0.
    return [
        pd.DataFrame([sidecar[key] for sidecar in sidecars], dtype=object)
        for key in ("AskedCovariates", "MeasuredCovariates")
    ]


def _participants(subjects, asked, measured):
    ids = pd.DataFrame({"participant_id": subjects})
    return pd.concat([ids, asked, measured.add_prefix("measured_")], axis=1)


def _columns(asked, measured):
    """The content of participants.json."""
    columns = {
        "Description": "What each synthetic subject was asked to be, and what was measured on it.",
        "participant_id": {"Description": "Name of the synthetic subject."},
    }
    tables = (
        ("", "asked of the generator", asked),
        ("measured_", "measured on the image", measured),
    )
    for prefix, how, table in tables:
        for column in table.columns:
            about = COVARIATES.get(column, {"Description": column})
            text = f"{about['Description']}, {how}."
            columns[prefix + column] = about | {"Description": text[0].upper() + text[1:]}
    return columns


def _description(title, variant, external):
    """The content of dataset_description.json."""
    steps = ["latent diffusion model"] * (not external)
    steps += ["patch-based refinement"] * (variant == "synthetic-refined")
    made_by = [{"Name": "another generator", "Description": "coarse volumes"}] * external
    made_by.append(
        {
            "Name": "RealDeal workflow",
            "Version": f"{realdeal.__version__}+{code_commit()}",
            "Description": ", ".join(steps) or "import of the volumes",
        }
    )
    return {
        "Name": title,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": made_by,
    }


def _citation(path, title):
    """CITATION.cff of the dataset: this workflow's authors and references."""
    workflow = yaml.safe_load(Path(path).read_text())
    software = {key: workflow[key] for key in ("type", "title", "version", "authors")}
    content = {
        "cff-version": workflow["cff-version"],
        "message": "If you use this dataset, please cite the papers whose methods made it.",
        "title": title,
        "type": "dataset",
        "authors": workflow["authors"],
        "references": [software, *workflow["references"]],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _readme(title, count, source, variant, external, conditioned):
    cohort, space = COHORTS[source]
    refined = variant == "synthetic-refined"
    maker = "another generator than this workflow's" if external else "a latent diffusion model"
    learners = ["the generator"] * (not external) + ["the refinement"] * refined
    learnt = f"{' and '.join(learners).capitalize()} learnt from {cohort}" if learners else ""
    unknown = "What the other generator learnt from is not known here." if external else ""
    told = (
        "`participants.tsv` has the covariates that the generator was asked for under their plain "
        "names and, where a value could be measured on the image, what was found as "
        "`measured_<name>`. Asked is not measured: a generator follows its instructions only so "
        "far, and a measurement errs too. Compare the two columns before you rely on either. "
        "`n/a`: not asked, or not measurable."
        if conditioned
        else "The generator was told nothing about the subjects, so `participants.tsv` has their "
        "names only."
    )
    paragraphs = [
        f"# {title}",
        f"{count} synthetic brains. **No image shows a person.** They were made by {maker} and are "
        f"{REFINED[variant]}. Each is one subject, `sub-<label>`, with one skull-stripped image in "
        "`anat/` and a JSON file that says how exactly it was made: seed, samplers and the digests "
        "of the networks.",
        "## What the generator learnt from",
        f"{learnt} {unknown}".strip(),
        "A generative model can repeat what it was trained on. Before you hand out images that "
        "were learnt from people's scans, compare them with the training scans.",
        "## Images",
        "NIfTI, int16 with a slope: after scaling, 0 is background (in coarse images, nearly) and "
        "1 the upper threshold of the study's preprocessing. World coordinates are "
        f"{space}; each brain has its own shape and lies in no template's space, so that the "
        "names have no `space` entity. The suffix "
        "tells the kind of scan that is imitated; `ce-gadolinium` stands for a contrast agent that "
        "nobody was given.",
        "## Covariates",
        told,
        "## Use",
        "`CITATION.cff` says what to cite. This workflow chooses no licence for the images: who "
        "hands them out does, within what the training scans allow.",
        f"`sha256sum -c {CHECKSUMS}` checks all files.",
    ]
    return (
        "\n\n".join(textwrap.fill(text, 100, break_on_hyphens=False) for text in paragraphs) + "\n"
    )


def _checksums(folder):
    """Lines of `sha256sum` for all files but hidden ones and the list itself."""
    lines = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts != (CHECKSUMS,) and not any(p[0] == "." for p in parts):
            lines.append(f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def _write_text(path, text):
    with atomic_path(path) as temporary:
        temporary.write_text(text)
