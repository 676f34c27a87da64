"""Where scans come from: a folder, HCP, a BIDS dataset, or the demo cohort.

Standard library only, because the Snakefile imports it; boto3 is imported when HCP is fetched.
"""

from pathlib import Path

from realdeal.data import bids
from realdeal.data.splits import choose
from realdeal.errors import InputError

SUFFIXES = (".nii.gz", ".nii")
HCP_BUCKET = "hcp-openaccess"
HCP_IMAGE = "HCP_1200/{subject}/T1w/T1w_acpc_dc_restore_brain.nii.gz"
HCP_LABELS = "HCP_1200/{subject}/T1w/aparc+aseg.nii.gz"


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
        return _hcp_subjects(data_config["hcp"])
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
        return {
            "image": HCP_IMAGE.format(subject=subject),
            "labels": HCP_LABELS.format(subject=subject),
        }
    if source == "bids":
        settings = data_config["bids"]
        masked = settings["skull_strip"] == "masks"
        if masked and settings["masks"] is None:
            raise InputError("data.bids.skull_strip: masks needs data.bids.masks; set it")
        return {
            "image": bids.find_image(settings, subject),
            "labels": bids.find_derivative(settings, "labels", subject),
            "masks": bids.find_derivative(settings, "masks", subject) if masked else None,
        }
    return {"image": None, "labels": None}


def coarse_files(settings, count, seed):
    """{name: path} of another generator's volumes in the folder of section sampling.external.

    At most `count` of them, drawn at random; names begin with synthetic-, so that none is taken
    for a subject. InputError if the folder is missing or empty.
    """
    scans = _scans(settings["folder"], "sampling.external.folder")
    return {f"synthetic-{name}": str(scans[name]) for name in choose(scans, count, seed)}


def fetch_hcp(subject, image, labels, settings):
    """Download T1w brain and aparc+aseg of an HCP subject to the paths `image` and `labels`.

    `settings` is section data.hcp. The keys are those that AWS tools find (environment or
    credentials file). InputError if boto3 or credentials are missing or HCP refuses.
    """
    _check_terms(settings)
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    except ImportError as error:
        raise InputError("data.source hcp needs boto3; install it: pip install boto3") from error
    from realdeal.files import atomic_path

    client = boto3.client("s3", region_name="us-east-1")
    for template, path in ((HCP_IMAGE, image), (HCP_LABELS, labels)):
        key = template.format(subject=subject)
        try:
            with atomic_path(path) as temporary:
                client.download_file(HCP_BUCKET, key, str(temporary))
        except NoCredentialsError as error:
            raise InputError(
                "no AWS credentials for HCP; make a key pair on the HCP Young Adult page of BALSA "
                "and store it with `aws configure`"
            ) from error
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            reason = {
                "403": "HCP refuses this key pair; accept the terms and renew the keys on BALSA",
                "404": "HCP has no such file; remove the subject from data.hcp.subjects",
            }.get(code, f"{error}; try again later")
            raise InputError(f"s3://{HCP_BUCKET}/{key}: {reason}") from error
        except BotoCoreError as error:
            raise InputError(
                f"s3://{HCP_BUCKET}/{key}: {error}; check the network and run again"
            ) from error


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


def _hcp_subjects(settings):
    _check_terms(settings)
    path = settings["subjects"]
    if not path:
        raise InputError("data.hcp.subjects: is not set; name a file with one HCP ID per line")
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data.hcp.subjects: {path} cannot be read ({error})") from error
    names = [line.strip() for line in lines]
    names = [name for name in names if name and not name.startswith("#")]
    seen = set()
    for name in names:
        if not name.isdigit():
            raise InputError(f"{path}: {name!r} is no HCP subject ID; write one number per line")
        if name in seen:
            raise InputError(f"{path}: subject {name} is listed twice; list it once")
        seen.add(name)
    if not names:
        raise InputError(f"{path}: lists no subject; write one HCP ID per line")
    return sorted(names)


def _check_terms(settings):
    if settings["terms_accepted"] is not True:
        raise InputError(
            "data.hcp.terms_accepted: read and accept the HCP Open Access Data Use Terms, "
            "then set it to true"
        )
