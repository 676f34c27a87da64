"""What every Snakemake script does before and after its one call into the library."""

import os
import sys
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

from realdeal.errors import one_line
from realdeal.gpus import claim_devices


class _Tee:
    """Write to the job's log and to the terminal."""

    def __init__(self, log, terminal):
        self.log = log
        self.terminal = terminal

    def write(self, text):
        with suppress(OSError):  # a full disk must not keep the terminal from saying so
            self.log.write(text)
        self.terminal.write(text)
        return len(text)

    def flush(self):
        with suppress(OSError):
            self.log.flush()
        self.terminal.flush()

    def isatty(self):
        return False  # several jobs may share the terminal: plain lines, no bars


def _leave_packages_of_snakemake():
    """Take the packages beside Snakemake off the search path, if this is another environment.

    Snakemake appends its own path for its scripts. A package that the environment of a job lacks
    would be borrowed from there, on the machines where it happens to be, in whatever version.
    """
    beside = Path(sys.modules["snakemake"].__file__).resolve().parents[1]
    if not beside.is_relative_to(Path(sys.prefix).resolve()):
        sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != beside]


@contextmanager
def job(snakemake):
    """Run the body of a script with its log open, its threads set and its GPUs claimed.

    The log is opened first, so that a failing import is recorded in it. An InputError, or a GPU
    that fails, ends the job with its one line and exit code 1; any other error also writes its
    traceback.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = str(snakemake.threads)
    os.environ.setdefault("MPLBACKEND", "Agg")
    _leave_packages_of_snakemake()
    stdout, stderr = sys.stdout, sys.stderr
    log = open(snakemake.log[0], "w", buffering=1)
    sys.stdout, sys.stderr = _Tee(log, stdout), _Tee(log, stderr)
    try:
        claim_devices(snakemake.resources.get("gpu", 0))
        yield
    except Exception as error:
        if line := one_line(error):
            print(f"{snakemake.rule}: {line}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = stdout, stderr
        with suppress(OSError):
            log.close()
