"""What made the tables and figures of a study: configuration, code, versions, data, seed.

`provenance.json` holds all of it and no time, so that a study made again has the same bytes.
Each table and figure carries its digest, and the networks that it rests on. Standard library only.
"""

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path

import realdeal
from realdeal.closure import code_commit, library_version
from realdeal.errors import InputError
from realdeal.files import atomic_path, read_json, write_json

DIGITS = 16  # hexadecimal, of a SHA-256
PACKAGES = (  # whose versions decide about numbers and pictures
    *("antspyx", "lightning-fabric", "lpips", "matplotlib", "monai", "nibabel", "nilearn"),
    *("numpy", "pandas", "safetensors", "scikit-image", "scikit-learn", "scipy", "torch"),
)


def file_digest(path, algorithm="sha256"):
    """Digest of a file in hexadecimal; InputError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def short_digest(path):
    """The digits of `file_digest` that tables and figures carry."""
    return file_digest(path)[:DIGITS]


def write_digests(path, files):
    """Write a line `subject, kind, SHA-256` (.tsv) for each file of {subject: {kind: file}}.

    Files that are None are left out.
    """
    lines = [
        f"{subject}\t{kind}\t{file_digest(file)}\n"
        for subject, kinds in files.items()
        for kind, file in kinds.items()
        if file
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(lines))


def write_provenance(path, config, digests):
    """Write what makes a study: `config` is resolved, `digests` are paths of `write_digests`.

    The digest of the data does not depend on where the scans lie, nor on how subjects are
    gathered into jobs. Versions are those of the environment that this runs in.
    """
    lines = sorted(line for file in digests for line in Path(file).read_text().splitlines())
    write_json(
        path,
        {
            "study": config["study"],
            "seed": config["seed"],
            "data": {
                "source": config["data"]["source"],
                "subjects": sum(line.split("\t")[1] == "image" for line in lines),
                "sha256": _text_digest("\n".join(lines)),
            },
            "realdeal": {
                "version": realdeal.__version__,
                "commit": code_commit(),
                "code": library_version(),
            },
            "versions": {"python": platform.python_version()} | _installed(),
            "config": config,
        },
    )


def stamp(study, networks):
    """What a table or figure carries, as {name: text}; `networks` are those that it rests on.

    InputError if provenance.json or the description of a network is missing.
    """
    made = read_json(study.provenance)
    code, data, versions = made["realdeal"], made["data"], made["versions"]
    weights = []
    for name in networks:
        description = read_json(study.model(name).with_suffix(".json"))
        digest = short_digest(study.model(name))
        weights.append(f"{name} {digest} (commit {description['commit']})")
    return {
        "Provenance": f"{study.provenance.name} {short_digest(study.provenance)}",
        "Study": made["study"],
        "Seed": str(made["seed"]),
        "Config": _text_digest(json.dumps(made["config"], sort_keys=True))[:DIGITS],
        "Data": f"{data['source']}, {data['subjects']} subjects, {data['sha256'][:DIGITS]}",
        "Commit": f"{code['commit']} (code {code['code']})",
        "Versions": ", ".join(
            [f"RealDeal {code['version']}"]
            + [f"{name} {versions[name]}" for name in ("python", "torch") if name in versions]
        ),
    } | ({"Networks": ", ".join(weights)} if weights else {})


def stamp_line(stamp):
    """A stamp as one line of text."""
    return "; ".join(f"{name}: {text}" for name, text in stamp.items())


def digest_line(files):
    """A line that names what a table of several studies is made of, {name: file}."""
    return "Made of " + ", ".join(f"{name} {short_digest(path)}" for name, path in files.items())


def _text_digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _installed():
    """{package: version} of those that this environment has."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
