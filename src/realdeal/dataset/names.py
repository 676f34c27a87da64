"""What synthetic volumes are called, in a study and as subjects of a dataset.

Standard library only: the Snakefile imports it.
"""

import re

from realdeal.errors import InputError


def numbered(kind, last, first=1):
    """<kind>-001, <kind>-002...: three digits up to 999, and as many as it takes after."""
    return [f"{kind}-{number:03d}" for number in range(first, last + 1)]


def further_names(have, wanted, per_job):
    """Names after the first `have`, up to `wanted` and on to the end of a full job.

    A job that is not full would become another job once more are wanted, and make its volumes
    again.
    """
    jobs = -(-max(wanted - have, 0) // per_job)
    return numbered("synthetic", have + jobs * per_job, first=have + 1)


def subject_id(name):
    """The subject of a volume: sub-synthetic001 of synthetic-001. BIDS has letters and digits."""
    return "sub-" + re.sub("[^A-Za-z0-9]", "", name)


def check_distinct(names):
    """InputError if two volumes would be the same subject, on any file system."""
    seen = {}
    for name in names:
        other = seen.setdefault(subject_id(name).lower(), name)
        if other != name:
            raise InputError(
                f"{other} and {name} would both be the subject {subject_id(name)} of the dataset; "
                "let the names of the external volumes differ by letters or digits"
            )
