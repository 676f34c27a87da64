"""Files that are either whole or absent."""

import errno
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from realdeal.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)
PROBE = 1 << 20  # bytes, more than is left where a write has failed for want of space


@contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The temporary name keeps all suffixes (`.nii.gz`), because writers choose the format by them.
    On any error nothing is left behind and an existing `path` stays as it was. InputError if the
    disk or the quota is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = "".join(path.suffixes[-2:])
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes the file private; give it the permissions an ordinary open() would.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except InputError:
        raise
    except Exception as error:
        if _is_full(path.parent, error):
            raise InputError(f"{path}: the disk is full; free some space and run again") from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _is_full(folder, error):
    """Whether `error` means that `folder` has no space left.

    torch, safetensors and numpy raise errors that do not say so: then more is written to see.
    """
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(PROBE))
    except OSError as probed:
        return probed.errno in FULL
    return False


def write_json(path, content):
    """Write `content` as indented JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path):
    """Read a JSON file; InputError if it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); make it again") from error


def write_table(path, table):
    """Write a pandas table as CSV (or TSV by suffix), missing values as `n/a` in TSV."""
    tabs = Path(path).suffix == ".tsv"
    with atomic_path(path) as temporary:
        table.to_csv(
            temporary, index=False, sep="\t" if tabs else ",", na_rep="n/a" if tabs else ""
        )
