"""Synthetic volumes as subjects of a BIDS dataset: an image and what is known of it."""

from realdeal.data.volumes import load_volume, save_volume
from realdeal.dataset.names import subject_id
from realdeal.errors import InputError
from realdeal.files import read_json, write_json
from realdeal.progress import progress
from realdeal.provenance import file_digest

# Modalities that BIDS names otherwise; the others are suffixes of its own (T1w, T2w, FLAIR...).
BIDS_MODALITIES = {"T1ce": "ce-gadolinium_desc-synthetic_T1w", "PD": "desc-synthetic_PDw"}

DESCRIPTION = "A synthetic brain scan: made by a generative model, not scanned from a person."
INTENSITY = (
    "0 is background and 1 the upper threshold of the study's preprocessing; 2x - 1 gives the "
    "values that the networks see."
)


def write_subjects(study, names, variant, making, modalities, asked, measured):
    """Write the folder of each synthetic volume in `names` below study.dataset().

    Each holds anat/sub-<label>_[ce-gadolinium_]desc-synthetic_<suffix>.nii.gz, of values in
    [0, 1] with background 0 (int16 with a slope; the volume's own [-1, 1] is mapped linearly),
    and a JSON sidecar of the same name.

    variant: synthetic or synthetic-refined. making: what goes into the sidecars of how volumes
    were made: the `seed`, the `networks` involved, the settings of `sampling` and `refinement`
    (None where there was none). modalities: those of the training scans, of which there must be
    one unless the LDM is asked for it. asked, measured: whether it is known of each volume what
    its generator was asked for, and what was measured on it. InputError for an unknown modality
    or a missing file.
    """
    models = {name: describe_model(study.model(name)) for name in making["networks"]}
    for name in progress(names, description="writing subjects", unit="subject"):
        request = read_json(study.asked(name)) if asked else {}
        found = read_json(study.measured(variant, name)) if measured else {}
        volume = load_volume(study.volume(variant, name))
        subject = subject_id(name)
        stem = f"{subject}_{image_name(request.get('modality'), modalities)}"
        folder = study.dataset(subject) / "anat"
        save_volume(folder / f"{stem}.nii.gz", (volume.data + 1) / 2, volume.affine)
        write_json(
            folder / f"{stem}.json",
            {
                "Description": DESCRIPTION,
                "Synthetic": True,
                "SkullStripped": True,
                "IntensityScale": INTENSITY,
                "Volume": name,
                "Variant": variant,
                "Seed": making["seed"],
                "Sampling": making["sampling"],
                "Refinement": making["refinement"],
                "Models": models,
                "AskedCovariates": request,
                "MeasuredCovariates": found,
            },
        )


def image_name(asked, modalities):
    """Entities and suffix of an image in BIDS, e.g. desc-synthetic_T1w.

    asked: the modality that the LDM was asked for, None if it was not.
    """
    if asked is None and len(modalities) > 1:
        raise InputError(
            f"dataset: the study has scans of {', '.join(modalities)}, and nothing tells which "
            "kind a synthetic volume is; add modality to ldm.conditioning"
        )
    modality = asked or modalities[0]
    return BIDS_MODALITIES.get(modality, f"desc-synthetic_{modality}")


def describe_model(path):
    """What identifies a trained network: the digest of its weights, and what its .json says."""
    about = read_json(path.with_suffix(".json"))
    kept = {key.capitalize(): about.get(key) for key in ("version", "commit", "seed", "steps")}
    return {"SHA256": file_digest(path), **kept}
