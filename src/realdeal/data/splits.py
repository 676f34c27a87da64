"""Which subject is trained on, tested on, or shown. Standard library only."""

import random
from collections import Counter

from realdeal.errors import InputError


def split(subjects, train_fraction, seed, strata=None, people=None):
    """Split subject names at random into (train, test), both sorted.

    The order of `subjects` does not matter. Either part has at least one subject. The paper
    takes 80 %: 890 of 1,113. With `strata`, {subject: stratum}, each stratum is split alike.
    With `people`, {person: its scans}, the scans of a person stay together, in the stratum of the
    first. InputError for duplicates or fewer than two subjects (in a stratum).
    """
    if people:
        scans = {names[0]: names for names in people.values()}
        if strata:
            strata = {first: strata[first] for first in scans}
        parts = split(list(scans), train_fraction, seed, strata)
        return tuple(sorted(sum((scans[first] for first in part), [])) for part in parts)
    if strata and len(set(strata.values())) > 1:
        parts = [
            split([s for s in subjects if strata[s] == stratum], train_fraction, seed)
            for stratum in sorted(set(strata.values()), key=str)
        ]
        return tuple(sorted(sum(sides, [])) for sides in zip(*parts, strict=True))
    if not 0 < train_fraction < 1:
        raise InputError(
            f"preprocessing.train_fraction: {train_fraction} must lie between 0 and 1 "
            "(the paper has 0.8)"
        )
    names = _shuffled(subjects, seed, "split")
    if len(names) < 2:
        raise InputError(f"{len(names)} subject(s): a split needs at least two; add scans")
    train = min(max(round(train_fraction * len(names)), 1), len(names) - 1)
    return sorted(names[:train]), sorted(names[train:])


def choose(subjects, count, seed):
    """At most `count` subjects drawn at random, sorted; independent of the order given."""
    return sorted(_shuffled(subjects, seed, "choose")[:count])


def _shuffled(subjects, seed, purpose):
    names = sorted(subjects)
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
    if duplicates:
        raise InputError(f"subject {duplicates[0]} is listed twice; list every subject once")
    # The purpose keeps draws from the same seed apart.
    random.Random(f"{purpose} {seed}").shuffle(names)
    return names
