"""What is known of the participants: carried over from a BIDS dataset, and read back."""

import logging

import pandas as pd

from realdeal.data import bids
from realdeal.errors import InputError
from realdeal.files import write_json

log = logging.getLogger(__name__)


def carry_covariates(study, subjects, settings):
    """Write study.covariates(subject) for each subject from the dataset's participants.tsv.

    `settings` is section data.bids. Subjects that have an image, as those given, or a line, but
    not both, are named in a warning.
    """
    for note in bids.notes(settings, subjects):
        log.warning("%s", note)
    rows = bids.covariates(settings)
    for subject in subjects:
        person, suffix = bids.person_and_suffix(settings, subject)
        about = rows.get(person, {}) | {"modality": suffix}
        if person != subject:
            about["person"] = person
        write_json(study.covariates(subject), about)


def read_covariates(study, subjects):
    """The rows of `subjects` in the study's participants.tsv, as dicts (None for n/a)."""
    try:
        # Only n/a is missing: an ID or diagnosis may well be called NA or None.
        table = pd.read_csv(
            study.participants,
            sep="\t",
            dtype={"participant_id": str},
            na_values=["n/a"],
            keep_default_na=False,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{study.participants}: cannot be read ({error}); make it again") from None
    table = table.set_index("participant_id", drop=False)
    if missing := sorted(set(subjects) - set(table.index)):
        raise InputError(f"{study.participants}: has no {missing[0]}; make it again")
    rows = table.loc[list(subjects)].astype(object)
    return rows.where(rows.notna(), None).to_dict("records")
