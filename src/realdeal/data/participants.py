"""The table of participants, read back."""

import pandas as pd

from realdeal.errors import InputError


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
