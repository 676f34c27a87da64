"""Where scans come from: a folder, HCP, a BIDS dataset, or the demo cohort.

Standard library only, because the Snakefile imports it.
"""

from pathlib import Path

from realdeal.data import bids, hcp
from realdeal.data.splits import choose
from realdeal.errors import InputError

SUFFIXES = (".nii.gz", ".nii")


def list_subjects(data_config):
    """Sorted subject names of the source in `data_config` (section `data` of the configuration).

    InputError if the source is empty, missing or ambiguous, or its terms are not accepted.
    """
    source = data_config["source"]
    if source == "demo":
        count = data_config["demo"]["subjects"]
        return [f"sub-{number:03d}" for number in range(1, count + 1)]
    if source == "folder":
        return sorted(_scans(data_config["folder"]["images"], "data.folder.images"))
    if source == "hcp":
        return hcp.list_subjects(data_config["hcp"])
    if source == "bids":
        return sorted(bids.list_images(data_config["bids"]))
    raise InputError(f"data.source: {source} is unknown; choose demo, folder, hcp or bids")


def source_files(data_config, subject):
    """The files of one subject: {"image": ..., "labels": ...}, for bids also "masks".

    folder and bids: paths; None where `labels` or `masks` is not set. hcp: keys in the bucket of
    HCP. demo: both None, because the workflow makes these files itself.
    """
    source = data_config["source"]
    if source == "folder":
        folder = data_config["folder"]
        return {
            "image": _scan(folder["images"], "data.folder.images", subject),
            "labels": folder["labels"] and _scan(folder["labels"], "data.folder.labels", subject),
        }
    if source == "hcp":
        return {kind: hcp.key(subject, kind) for kind in ("image", "labels")}
    if source == "bids":
        settings = data_config["bids"]
        masked = settings["skull_strip"] == "masks"
        if masked and settings["masks"] is None:
            raise InputError("data.bids.skull_strip: masks needs data.bids.masks; set it")
        image = bids.find_image(settings, subject)
        return {
            "image": image,
            "labels": bids.find_derivative(settings, "labels", subject, image),
            "masks": bids.find_derivative(settings, "masks", subject, image) if masked else None,
        }
    return {"image": None, "labels": None}


def coarse_files(settings, count, seed):
    """{name: path} of another generator's volumes in the folder of section sampling.external.

    At most `count` of them, drawn at random; names begin with synthetic-, so that none is taken
    for a subject. InputError if the folder is missing or empty.
    """
    scans = _scans(settings["folder"], "sampling.external.folder")
    return {f"synthetic-{name}": str(scans[name]) for name in choose(scans, count, seed)}


def _scans(folder, key):
    """{subject: path} of all NIfTI files in a folder."""
    if not folder:
        raise InputError(f"{key}: is not set; name the folder that holds <subject>.nii.gz")
    if not Path(folder).is_dir():
        raise InputError(f"{key}: {folder} is no folder; check the path")
    scans = {}
    for path in sorted(Path(folder).iterdir()):
        suffix = next((end for end in SUFFIXES if path.name.endswith(end)), None)
        if suffix is None or path.name.startswith("."):
            continue
        subject = path.name.removesuffix(suffix)
        if subject in scans:
            raise InputError(
                f"{folder}: {path.name} and {scans[subject].name} are the same subject; remove one"
            )
        scans[subject] = path
    if not scans:
        raise InputError(f"{key}: {folder} holds no .nii.gz or .nii file; put the scans there")
    return scans


def _scan(folder, key, subject):
    found = [Path(folder, subject + suffix) for suffix in SUFFIXES]
    found = [path for path in found if path.is_file()]
    if not found:
        raise InputError(f"{key}: {folder} has no {subject}.nii.gz; add it or remove the subject")
    if len(found) > 1:
        raise InputError(f"{folder}: {found[0].name} and {found[1].name} clash; remove one")
    return str(found[0])
