"""Each device serves one job at a time."""

import itertools
import os
import subprocess
import sys

import pytest

from realdeal.errors import InputError
from realdeal.gpus import claim_devices

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
