"""A tiny study on a real Slurm of one node: `pytest -m slurm`, after `tests/slurm/node.sh install`.

The daemons are started for these tests and stopped after them; see tests/slurm.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
NODE = ROOT / "tests/slurm/node.sh"
RUNS = []  # Snakemake processes
PROFILES = ("--profile", "slurm", "--profile", "tests/slurm/profile.yaml")

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Slurm runs here."""
    missing = [name for name in ("munged", "slurmctld", "slurmd") if not shutil.which(name)]
    if missing or os.geteuid():
        reason = f"{', '.join(missing)} not installed" if missing else "it takes root"
        pytest.skip(f"nothing was run on Slurm: {reason}; see tests/slurm/node.sh")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_TEST_STATE", str(tmp_path_factory.mktemp("slurm")))
        started = subprocess.run([NODE, "start"], capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
        yield
        for run in RUNS:
            run.kill()  # one that a failed test has left
        subprocess.run([NODE, "stop"], check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the study runs; with the weights, if they have been fetched before."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "resources").mkdir()
    (ROOT / "resources/weights").mkdir(exist_ok=True)
    (folder / "resources/weights").symlink_to(ROOT / "resources/weights")
    return folder


def start(folder, *arguments, **sections):
    """A run of the tiny study, with some sections of its configuration changed, as a process."""
    config = folder / "changed.yaml"
    config.write_text(yaml.safe_dump(sections))
    command = [sys.executable, "-m", "snakemake", *map(str, arguments), "--directory", folder]
    command += ["--configfile", "tests/tiny.yaml", config]
    run = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell that starts the tests in the background lets them ignore Ctrl-C; Snakemake not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    RUNS.append(run)
    return run


def finish(process, timeout=600):
    """Output of a run, which must end well."""
    output = process.communicate(timeout=timeout)[0]
    assert process.returncode == 0, output[-8000:]
    return output


def wait_for(condition, process, timeout=240):
    """Wait until `condition()` is true, and return what it gave."""
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert process.poll() is None, process.communicate()[0][-8000:]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.5)
    return found


def went_on(log):
    """The step from which a training went on, once it has."""
    found = log.exists() and re.search(r"going on from step (\d+)", log.read_text())
    return found and int(found[1])


def interrupt(process):
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0


def slurm_jobs():
    """All jobs that Slurm has had, by ID: state, what they asked for."""
    shown = subprocess.run(
        ["scontrol", "--oneliner", "show", "jobs"], capture_output=True, text=True, check=True
    )
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown.stdout.splitlines()]
    return {job["JobId"]: job for job in jobs if "JobId" in job}


def of_rule(rule):
    return [job for job in slurm_jobs().values() if job.get("Comment") == f"rule_{rule}"]


def wait_for_an_empty_queue(timeout=60):
    end = time.monotonic() + timeout
    while subprocess.run(["squeue", "-h"], capture_output=True, check=True).stdout:
        assert time.monotonic() < end, "jobs were not cancelled"
        time.sleep(0.5)


def test_limits_interruptions_and_a_whole_path(node, folder):
    """Killed for time, killed for memory, cancelled; and then from scans to a table."""
    # What the training reads is made here, to save time.
    finish(start(folder, "reconstruct_1", "--cores", 1))

    # A training of an hour, of which the cluster allows a minute at a time.
    log = folder / "logs/tiny/train_refiner.log"
    long = {"training": {"steps": 50_000, "checkpoint_seconds": 900}}
    limit = ("--set-resources", "train_refiner:runtime=1", "--retries", 9)
    run = start(folder, "train_refiner", *PROFILES, *limit, refiner=long)

    # Meanwhile a job that needs more memory than it asks for at first.
    hungry = [sys.executable, "-m", "snakemake", "--snakefile", "tests/slurm/Snakefile", *PROFILES]
    subprocess.run([*hungry, "--directory", folder / "hungry"], cwd=ROOT, timeout=300, check=True)
    assert (folder / "hungry/fed").read_text() == "1200\n"
    killed, fed = of_rule("hungry")
    assert (killed["MinMemoryNode"], fed["MinMemoryNode"]) == ("600M", "1200M")
    assert killed["JobState"] in ("FAILED", "OUT_OF_MEMORY") and fed["JobState"] == "COMPLETED"

    # The minute is over: it has saved its state, and its next attempt goes on from there.
    first = wait_for(lambda: went_on(log), run)
    *ended, running = [job["JobState"] for job in of_rule("train_refiner")]
    assert set(ended) == {"TIMEOUT"} and running == "RUNNING"

    # Ctrl-C takes its job out of the queue; the same command goes on, without --unlock.
    interrupt(run)
    wait_for_an_empty_queue()
    log.unlink()
    run = start(folder, "train_refiner", *PROFILES, refiner=long)
    second = wait_for(lambda: went_on(log), run)
    assert second >= first > 0

    # A job that is cancelled while it computes saves its state, too.
    wait_for(lambda: re.search(r"[1-9]\d*/50000 .* loss", log.read_text()), run)
    interrupt(run)
    wait_for_an_empty_queue()
    assert int(re.search(r"stopped after step (\d+) of", log.read_text())[1]) > second

    # All three networks, sampling, refinement, scores and a table.
    targets = ("table2", "sample_1")
    output = finish(start(folder, *targets, *PROFILES))
    assert (folder / "results/tiny/tables/table2.csv").stat().st_size
    submitted = re.findall(r"SLURM jobid (\d+)", output)
    jobs = slurm_jobs()
    assert len(submitted) >= 9
    assert {jobs[number]["JobState"] for number in submitted} == {"COMPLETED"}
    refiner, table = of_rule("train_refiner")[-1], of_rule("table2")[-1]
    assert refiner["TresPerJob"] == "gres:gpu:1" and "TresPerJob" not in table
    assert refiner["MinMemoryNode"] == "16000M" and refiner["TimeLimit"] == "7-00:00:00"
    assert "Nothing to be done" in finish(start(folder, *targets, "--dry-run", *PROFILES))
