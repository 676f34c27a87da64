"""Likeness to the nearest training scan: copies, new volumes, and a value by hand."""

import numpy as np

from realdeal.metrics.novelty import nearest


def test_copies_are_told_from_new_volumes():
    rng = np.random.default_rng(0)
    shared = 10 * rng.normal(size=(1, 6, 6, 6))
    references = shared + rng.normal(size=(12, 6, 6, 6))
    copies = references[:3] + 0.1 * rng.normal(size=(3, 6, 6, 6))
    fresh = shared + rng.normal(size=(3, 6, 6, 6))
    assert (nearest(copies, references) > 0.98).all()
    assert (nearest(fresh, references) < 0.3).all()


def test_a_value_by_hand():
    """Mean (0, 0); the candidate (1, 1) lies at 45 degrees to the nearest of three references."""
    references = np.array([[2.0, 0], [-1, 1], [-1, -1]]).reshape(3, 2, 1, 1)
    found = nearest(np.array([[1.0, 1.0]]).reshape(1, 2, 1, 1), references)
    assert np.allclose(found, np.sqrt(0.5))
