"""The numbers that the RealDeal paper prints, and the gap closure that follows from them."""

import numpy as np
import pandas as pd

from realdeal.errors import InputError
from realdeal.paper.items import DISTANCES, ROWS, TABLES

COLUMNS = ["table", "row", "metric", "region", "dim", "k", "value", "source"]


def gap_closure(baseline, refined, ideal):
    """Share of the gap between `baseline` and `ideal` that `refined` closes.

    `1 - |refined - ideal| / |baseline - ideal|`: 1 if the refinement reaches the ideal, 0 if it
    changes nothing, negative if it makes things worse, NaN where there is no gap. Numbers or
    arrays of one shape; the result is an array of that shape.
    """
    baseline, refined, ideal = np.broadcast_arrays(
        *(np.asarray(value, dtype=float) for value in (baseline, refined, ideal))
    )
    gap = np.abs(baseline - ideal)
    closed = np.full(gap.shape, np.nan)
    np.divide(gap - np.abs(refined - ideal), gap, out=closed, where=gap > 0)
    return closed


class Published:
    """The published numbers, looked up by the place where they are printed.

    The paper gives no parameters for its HOG descriptors, so `hog_3x3` and `hog_1x1` are both
    looked up as its `hog`.
    """

    def __init__(self, path):
        """Read `resources/published.csv`; InputError if it cannot be read or has a number twice."""
        try:
            table = pd.read_csv(path, dtype={"dim": "Int64", "k": "Int64"})
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); restore it") from error
        if list(table.columns) != COLUMNS:
            raise InputError(f"{path}: must have the columns {','.join(COLUMNS)}; restore it")
        keys = table[COLUMNS[:6]].astype(object).where(table[COLUMNS[:6]].notna(), None)
        if keys.duplicated().any():
            raise InputError(f"{path}: gives a number twice; remove one of the two lines")
        self.numbers = dict(
            zip(keys.itertuples(index=False, name=None), table["value"], strict=True)
        )

    def value(self, table, row, column):
        """The number printed in `row` of `table` for a `Column`; NaN if there is none."""
        metric = "hog" if column.metric.startswith("hog_") else column.metric
        return self.numbers.get((table, row, metric, *column[1:]), np.nan)

    def closure(self, table, column):
        """Gap closure of one column as published; NaN if the paper does not print the column."""
        baseline = self.value(table, ROWS[TABLES[table].baseline], column)
        ideal = 0 if column.metric in DISTANCES else self.value(table, "Orig.", column)
        return float(gap_closure(baseline, self.value(table, "RealDeal", column), ideal))
