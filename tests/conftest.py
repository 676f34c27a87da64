"""What several test files share."""

import signal
from pathlib import Path

import pytest
from snakemake_run import run_snakemake

ROOT = Path(__file__).resolve().parent.parent

# What a script starts in the background ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def snakemake(tmp_path_factory):
    """Run the workflow away from the repository's results: snakemake(*arguments, directory=...).

    Targets come first, because Snakemake's option lists swallow what follows them. Returns the
    finished process; its output is stdout and stderr together.
    """
    default = tmp_path_factory.mktemp("workflow")

    def run(*arguments, directory=default, timeout=120):
        return run_snakemake(*arguments, "--directory", directory, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory, snakemake):
    """The folder in which the tiny study was run to its report; whoever changes it copies it."""
    folder = tmp_path_factory.mktemp("tiny")
    weights = ROOT / "resources/weights"
    weights.mkdir(parents=True, exist_ok=True)  # fetched once for all runs
    (folder / "resources").mkdir()
    (folder / "resources/weights").symlink_to(weights)
    options = ("--cores", 2, "--show-failed-logs", "--configfile", ROOT / "tests/tiny.yaml")
    done = snakemake(*options, directory=folder, timeout=840)
    assert done.returncode == 0, done.stdout[-8000:]
    return folder
