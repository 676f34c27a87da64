"""Snakemake in a process forked from one that has imported it, which saves half of a dry run.

It is the program's own `main`, with the same arguments, exit code and output.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli", "snakemake.report.html_reporter", "smart_open"])


def _main(arguments, environment, said):
    from snakemake.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server of forks ignores it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)  # where --profile looks for slurm
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["snakemake", *arguments]
    main(arguments)


def run_snakemake(*arguments, timeout):
    """The finished process; its output is stdout and stderr together."""
    arguments = [str(argument) for argument in arguments]
    with tempfile.NamedTemporaryFile("r", errors="replace") as said:
        process = FORKS.Process(target=_main, args=(arguments, dict(os.environ), said.name))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout, said.read())
        return subprocess.CompletedProcess(arguments, process.exitcode, said.read())
