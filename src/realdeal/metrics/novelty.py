"""Are samples new, or copies of training scans?"""

import numpy as np


def nearest(candidates, references):
    """How much each candidate is like the training scan that it is most like: (N,), at most 1.

    candidates (N, X, Y, Z) and references (M, X, Y, Z), M > 1, on one grid, of one kind. What all
    references share says nothing: likeness is the cosine of deviations from their mean. Copies
    have about 1; new volumes have what held-out scans have.
    """
    references = np.asarray(references, np.float64).reshape(len(references), -1)
    mean = references.mean(0)

    def directions(volumes):
        away = np.asarray(volumes, np.float64).reshape(len(volumes), -1) - mean
        return away / np.linalg.norm(away, axis=1, keepdims=True).clip(1e-12)

    return (directions(candidates) @ directions(references).T).max(1)
