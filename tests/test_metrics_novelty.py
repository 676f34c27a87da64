"""Likeness to the nearest training scan: copies, new volumes, and a value by hand."""

import numpy as np

from realdeal.data.volumes import Volume
from realdeal.metrics.novelty import coarse, nearest


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


def test_volumes_are_compared_at_about_four_millimetres():
    data = np.arange(8 * 4 * 4, dtype=np.float32).reshape(8, 4, 4)
    fine = Volume(data, np.diag([1, 2, 4, 1]))
    assert np.allclose(coarse(fine), data.reshape(2, 4, 2, 2, 4).mean((1, 3)))
    assert np.array_equal(coarse(Volume(data, np.diag([4, 4, 5, 1]))), data)
