"""Each device serves one job at a time."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from realdeal.errors import InputError
from realdeal.gpus import claim_devices

ROOT = Path(__file__).resolve().parent.parent
JOB = """
import os, sys, time
from realdeal.gpus import claim_devices
held = claim_devices(int(sys.argv[1]), installed=4, folder=sys.argv[2])
assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(map(str, held))
begin = time.monotonic()
time.sleep(0.4)
print(begin, time.monotonic(), *held)
"""


def test_eight_jobs_on_four_devices_never_share_one(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", JOB, count, tmp_path],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for count in "11211131"
    ]
    used = []
    for job in jobs:
        printed = job.communicate(timeout=60)[0].splitlines()[-1].split()
        assert job.returncode == 0
        used += [(int(i), float(printed[0]), float(printed[1])) for i in printed[2:]]
    assert len(used) == 11 and {device for device, *_ in used} == {0, 1, 2, 3}
    for (device, begin, end), (other, start, stop) in itertools.combinations(used, 2):
        assert device != other or end <= start or stop <= begin


def test_what_was_assigned_is_left_and_too_many_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert claim_devices(1, installed=2, folder=tmp_path) == []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert claim_devices(0, installed=2, folder=tmp_path) == []
    assert claim_devices(1, installed=0, folder=tmp_path) == []
    with pytest.raises(InputError, match="has 2"):
        claim_devices(3, installed=2, folder=tmp_path)


SNAKEFILE = """
import sys
sys.path.insert(0, {source!r})
rule all:
    input: expand("{{number}}.txt", number=range(6))
rule compute:
    output: "{{number}}.txt"
    log: "{{number}}.log"
    resources: gpu=1
    script: "compute.py"
"""
SCRIPT = """
from realdeal.job import job
with job(snakemake):
    import os, time
    begin = time.monotonic()
    time.sleep(1)
    with open(snakemake.output[0], "w") as file:
        print(os.environ["CUDA_VISIBLE_DEVICES"], begin, time.monotonic(), file=file)
"""


@pytest.mark.parametrize("limit", [["--resources", "gpu=2"], []], ids=["limited", "no-limit"])
def test_jobs_of_snakemake_never_share_a_device(limit, tmp_path):
    """With two devices and more jobs at once than that, whatever Snakemake was told to count."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(source=str(ROOT / "src")))
    (tmp_path / "compute.py").write_text(SCRIPT)
    lister = tmp_path / "bin/nvidia-smi"
    lister.parent.mkdir()
    lister.write_text("#!/bin/sh\necho 'GPU 0: one'\necho 'GPU 1: two'\n")
    lister.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PATH": f"{lister.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "snakemake", "--cores", "4", *limit]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    used = [(tmp_path / f"{number}.txt").read_text().split() for number in range(6)]
    assert {device for device, *_ in used} == {"0", "1"}
    for (device, begin, end), (other, start, stop) in itertools.combinations(used, 2):
        assert device != other or float(end) <= float(start) or float(stop) <= float(begin)
