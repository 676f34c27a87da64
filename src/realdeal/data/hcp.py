"""HCP Young Adult (S1200): which subjects the bucket has, and their files.

Standard library only when imported, because the Snakefile imports it; boto3 is imported when the
bucket is asked. Keys, profile and endpoint are those that every AWS tool finds: environment
variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ENDPOINT_URL_S3) or ~/.aws.
They belong to a person and a site, not to a study, so that no configuration holds them.
"""

import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from realdeal.data import s3
from realdeal.errors import InputError
from realdeal.files import atomic_path

BUCKET = "hcp-openaccess"
REGION = "us-east-1"
FILES = {"image": "T1w_acpc_dc_restore_brain.nii.gz", "labels": "aparc+aseg.nii.gz"}
CONNECTIONS = 16  # questions asked at once

COLUMNS = ("subject", "bytes", "lacks")  # of the inventory
NOTHING = "everything: no such subject"

REMEDY = (
    "log in to BALSA, accept the Open Access Data Use Terms of HCP Young Adult, press "
    "'AWS S3 Key Generation' on its page"
)


def key(subject, kind):
    """Key in the bucket of a subject's `image` or `labels`."""
    return f"{_folder(subject)}{FILES[kind]}"


def list_subjects(settings):
    """Sorted IDs from the user's list; `settings` is section data.hcp.

    InputError if the terms are not accepted or the list is missing, empty or ambiguous.
    """
    _check_terms(settings["terms_accepted"])
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


def available(subjects, settings, path):
    """Of `subjects`, those whose files the bucket has, and {subject: what it lacks} of the others.

    The answers are kept in the inventory `path` (.tsv), and only what is not there is asked, with
    one LIST request for a subject. Once decided, a study therefore keeps its subjects, and a node
    without internet can plan it; delete the inventory to ask anew. Where `settings["missing"]`
    is `fail`, InputError names all subjects that lack files, and these are asked for each time.
    """
    _check_terms(settings["terms_accepted"])
    skip = settings["missing"] == "skip"
    known = _read_inventory(path)
    if asked := [name for name in subjects if name not in known or (known[name][1] and not skip)]:
        known |= _ask(asked)
        _write_inventory(path, known)
        whole = [known[name][0] for name in subjects if not known[name][1]]
        print(
            f"HCP has the files of {len(whole):,} of {len(subjects):,} subjects, "
            f"{sum(whole) / 1e9:,.2f} GB ({path})",
            file=sys.stderr,
        )
    lacking = {name: known[name][1] for name in subjects if known[name][1]}
    if lacking and (not skip or len(lacking) == len(subjects)):
        names = ", ".join(f"{name} ({what})" for name, what in lacking.items())
        remedy = "" if skip else ", or set data.hcp.missing: skip to go on without them"
        raise InputError(
            f"{settings['subjects']}: HCP lacks files of {len(lacking)} of {len(subjects)} "
            f"subjects: {names}; take them off the list{remedy}"
        )
    return [name for name in subjects if name not in lacking], lacking


def fetch(subject, image, labels, terms_accepted):
    """Download T1w brain and aparc+aseg of a subject to the paths `image` and `labels`.

    Both get their names when both are whole and checked, because Snakemake deletes all outputs
    of a failed job; what had come stays in hidden .part files, see `realdeal.data.s3`.
    InputError if keys or files are missing, the bucket cannot be reached or the disk is full.
    """
    _check_terms(terms_accepted)
    parts = {}
    with _client() as client:
        for kind, path in (("image", image), ("labels", labels)):
            with _plain_errors(f"s3://{BUCKET}/{key(subject, kind)}"):
                parts[path] = s3.receive(client, BUCKET, key(subject, kind), path)
    for path, part in parts.items():
        part.replace(path)


def _folder(subject):
    return f"HCP_1200/{subject}/T1w/"


def _check_terms(accepted):
    if accepted is not True:
        raise InputError(
            "data.hcp.terms_accepted: read and accept the HCP Open Access Data Use Terms, "
            "then set it to true"
        )


def _ask(subjects):
    """{subject: (bytes, what it lacks or "")}, asked of the bucket."""
    from realdeal.progress import progress

    def question(subject):
        with _plain_errors(f"s3://{BUCKET}/{_folder(subject)}"):
            return _holdings(client, subject)

    with _client() as client, ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = pool.map(question, subjects)
        try:
            answers = progress(answers, len(subjects), "asking HCP's bucket", "subject")
            return dict(zip(subjects, answers, strict=True))
        except InputError:
            pool.shutdown(cancel_futures=True)  # wrong keys are wrong for all subjects
            raise


def _holdings(client, subject):
    listing = client.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix=_folder(subject), Delimiter="/"
    )
    sizes = {item["Key"]: item["Size"] for page in listing for item in page.get("Contents", ())}
    wanted = {name: sizes.get(_folder(subject) + name) for name in FILES.values()}
    lacks = ", ".join(name for name, size in wanted.items() if size is None)
    if not sizes:
        # HEAD answers 404 for an unknown subject and for a missing file alike; a list tells.
        folder = client.list_objects_v2(Bucket=BUCKET, Prefix=f"HCP_1200/{subject}/", MaxKeys=1)
        lacks = lacks if folder.get("KeyCount") else NOTHING
    return sum(size or 0 for size in wanted.values()), lacks


def _read_inventory(path):
    if not Path(path).exists():
        return {}
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {row["subject"]: (int(row["bytes"]), row["lacks"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no inventory of HCP ({error}); delete it") from error


def _write_inventory(path, known):
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows((name, *row) for name, row in sorted(known.items()))


@contextmanager
def _client():
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise InputError(
            "data.source hcp needs boto3 beside Snakemake; install it: pip install boto3"
        ) from error
    config = Config(
        retries={"mode": "standard", "total_max_attempts": s3.ATTEMPTS},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=CONNECTIONS,
    )
    with _plain_errors(f"s3://{BUCKET}"):
        # a session of its own: boto3's common one would go on with keys that were set before
        client = boto3.Session().client("s3", region_name=REGION, config=config)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _plain_errors(url):
    """Say in one line what went wrong with `url` and what to do."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InputError(
            f"{url}: no credentials ({error}); {REMEDY}, and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY or run `aws configure`"
        ) from error
    except ClientError as error:
        raise InputError(f"{url}: {_refusal(error)}") from error
    except BotoCoreError as error:
        text = " ".join(str(error).split())
        raise InputError(f"{url}: {text}; check network and AWS settings, run again") from error


def _refusal(error):
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "RequestTimeTooSkewed":
        return "this machine's clock is wrong (RequestTimeTooSkewed); set it"
    if status == 403:
        return f"HCP refuses these keys (403 {code}): {REMEDY} and use the new keys"
    if code == "NoSuchBucket":
        return "the endpoint has no such bucket; check AWS_ENDPOINT_URL_S3 and ~/.aws/config"
    if status == 404:
        return "HCP has no such file; delete hcp_inventory.tsv of the study to ask anew"
    if status == 412:
        return "the object has changed during its transfer; run again"
    return f"{error}; run again later, what has come so far is kept"
