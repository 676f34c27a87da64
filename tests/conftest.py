"""What several test files share."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def snakemake(tmp_path_factory):
    """Run the workflow away from the repository's results: snakemake(*arguments, directory=...).

    Targets come first, because Snakemake's option lists swallow what follows them. Returns the
    finished process; its output is stdout and stderr together.
    """
    default = tmp_path_factory.mktemp("workflow")

    def run(*arguments, directory=default, timeout=120):
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *map(str, arguments), "--directory", directory],
            cwd=ROOT,  # where --profile looks for slurm
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    return run
