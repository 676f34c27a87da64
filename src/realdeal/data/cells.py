"""Which disease and which kind of scan each subject of the demo cohort has.

A cell is a pair (pathology, modality); a subject is one scan of one cell, of a person who may
have several. Standard library only: the Snakefile imports it, because what is trained on may
depend on the cells.
"""

import random
from itertools import product

from realdeal.errors import InputError


def list_cells(settings):
    """All cells of the section data.demo, pathology by pathology."""
    return list(product(settings["pathologies"], settings["modalities"]))


def cell(number, seed, settings):
    """(pathology, modality) of subject `number` (1, 2, ...).

    Balanced: every run of as many subjects as there are cells has each cell once, in an order
    that is drawn for the run. The size of the cohort does not matter. With `all_modalities` a
    person is scanned in one after another, and pathologies are balanced over people.
    """
    order = list_cells(settings)
    if (scans := scans_of_a_person(settings)) > 1:
        person, scan = divmod(number - 1, scans)
        return cell(person + 1, seed, {**settings, "modalities": [settings["modalities"][scan]]})
    run, place = divmod(number - 1, len(order))
    random.Random(f"cells {seed} {run}").shuffle(order)
    return order[place]


def people(subjects, settings):
    """{number of a person: the subjects that are its scans}, for names that end in -<number>."""
    scans, found = scans_of_a_person(settings), {}
    for subject in subjects:
        found.setdefault((number_of(subject) - 1) // scans + 1, []).append(subject)
    return found


def assign(subjects, seed, settings):
    """{subject: its cell} for names that end in -<number>.

    InputError if there are fewer subjects than cells, so that a cell would stay empty.
    """
    wanted = len(list_cells(settings))
    if len(subjects) < wanted:
        raise InputError(
            f"data.demo.subjects: {len(subjects)} subjects leave some of the {wanted} pairs of "
            f"pathology and modality empty; make at least {wanted}"
        )
    return {subject: cell(number_of(subject), seed, settings) for subject in subjects}


def examples(assigned, settings):
    """{cell: the first subject that `assign` gave it}, in the order of `list_cells`."""
    first = {cell: subject for subject, cell in reversed(assigned.items())}
    return {cell: first[cell] for cell in list_cells(settings)}


def scans_of_a_person(settings):
    """How many subjects are scans of the same person."""
    return len(settings["modalities"]) if settings.get("all_modalities") else 1


def has_lesions(settings):
    """Whether a cohort of these settings comes with lesion masks."""
    return settings["pathologies"] != ["healthy"]


def number_of(subject):
    """The number at the end of a demo subject's name."""
    return int(subject.rsplit("-", 1)[1])
