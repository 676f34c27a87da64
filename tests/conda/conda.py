"""A stand-in for conda where no channel is in reach; it answers what Snakemake asks of conda.

An environment that it creates has the packages that its file lists, in those versions, and all
that they require, as links to what is installed beside this Python: whatever else a script
imports is missing, as it would be in the real environment. It cannot show that the channels
have these packages or that conda finds them to fit together.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent  # of <root>/bin/conda
PIP_NAMES = {"pytorch": "torch"}


def listed(path):
    """(name, version or None) of all packages in an environment file, conda's and pip's."""
    content = yaml.safe_load(Path(path).read_text())
    if set(content) != {"channels", "dependencies"} or content["channels"][-1] != "nodefaults":
        sys.exit(f"{path}: wants channels that end in nodefaults, and dependencies")
    for entry in content["dependencies"]:
        for text in entry["pip"] if isinstance(entry, dict) else [entry]:
            yield re.fullmatch(r"(\S+)(?: =+(\S+))?", text).groups()


def fitting(name, version):
    """The installed distribution of a package; exits if there is none of the version."""
    try:
        found = metadata.distribution(PIP_NAMES.get(name, name))
    except metadata.PackageNotFoundError:
        sys.exit(f"PackagesNotFoundError: {name}")
    if version and not f"{found.version}.".startswith(f"{version}."):
        sys.exit(f"PackagesNotFoundError: {name} ={version}; {found.version} is installed")
    return found


def with_requirements(distributions):
    found, queue = {}, list(distributions)
    while queue:
        distribution = queue.pop()
        name = canonicalize_name(distribution.name)
        if name not in found:
            found[name] = distribution
            needed = map(Requirement, distribution.requires or [])
            queue += [
                metadata.distribution(need.name)
                for need in needed
                if need.marker is None or need.marker.evaluate({"extra": ""})
            ]
    return found.values()


def create(path, prefix):
    wanted = dict(listed(path))
    python = wanted.pop("python")
    if not sys.version.startswith(f"{python}."):
        sys.exit(f"PackagesNotFoundError: python ={python}; this is {sys.version.split()[0]}")
    for name in ("pip", os.environ.get("STANDIN_WITHOUT")):  # the latter to test what it does
        wanted.pop(name, None)
    distributions = with_requirements(fitting(*package) for package in wanted.items())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": prefix}))
    for distribution in distributions:
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).is_symlink():
                (site / top).symlink_to(distribution.locate_file(top))


match sys.argv[1:]:
    case ["info", "--json"]:
        print(json.dumps({"conda_prefix": str(ROOT), "platform": "linux-64"}))
    case ["--version"]:
        print("conda 25.1.0")
    case ["config", "--get", *_]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    case ["clean", *_]:
        pass
    case ["env", "create", *options]:
        values = dict(zip(options, options[1:], strict=False))
        create(values["--file"], values["--prefix"])
    case other:
        sys.exit(f"stand-in for conda: does not know {' '.join(other)}")
