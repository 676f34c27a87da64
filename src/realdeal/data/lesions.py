"""Lesions of the demo cohort: glioblastoma and multiple sclerosis, with their truth.

Lesions are placed and shaped in the space of the template, in mm, and so deform with the brain
that they lie in. A glioblastoma is a mass with a necrotic core and an enhancing rim that pushes
its surroundings aside, and oedema in the white matter around it. Multiple sclerosis has ovoid
plaques in white matter, most of them beside the ventricles and perpendicular to their wall, the
others under the cortex. Dementia has no lesions here: it is a matter of shape.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

NECROSIS, OEDEMA, ENHANCING, PLAQUE = 1, 2, 3, 4
NAMES = {NECROSIS: "necrosis", OEDEMA: "oedema", ENHANCING: "enhancing", PLAQUE: "plaque"}

RIM = 4.5  # mm, thickness of the enhancing rim in the template
GROWTH = 0.4  # of the mass in place: by a factor of exp(0.4) at its centre


class Tumour(NamedTuple):
    centre: np.ndarray  # (3,) mm, in the template
    radius: float  # mm, with the rim
    reach: float  # mm, of the oedema around


class Plaques(NamedTuple):
    centres: np.ndarray  # (L, 3) mm, in the template
    axes: np.ndarray  # (L, 3) unit vectors along the plaques
    lengths: np.ndarray  # (L, 2) mm, half the length and half the width


def draw(rng, pathology, reference):
    """Where a subject's lesions lie in the `Template` of realdeal.data.demo.

    A `Tumour`, `Plaques`, or None for a pathology without lesions.
    """
    if pathology == "glioblastoma":
        return _draw_tumour(rng, reference)
    if pathology == "sclerosis":
        return _draw_plaques(rng, reference)
    return None


def push(tumour, nodes):
    """Velocity (3, X, Y, Z) by which a tumour draws points `nodes` (3, X, Y, Z), mm, to its centre.

    Seen from the subject the mass grows by as much and displaces what surrounds it.
    """
    away = nodes - tumour.centre[:, None, None, None]
    scale = 1.2 * tumour.radius
    return -GROWTH * away * np.exp(-(away**2).sum(0) / (2 * scale**2))


def shares(lesions, place, white, wander):
    """Fraction of each lesion kind at the points: {code: float32 (N,)}.

    `place` holds the maps of the template at the points, `white` their fraction of white matter
    and `wander` a random field of unit variance that makes outlines irregular.
    """
    if isinstance(lesions, Tumour):
        return _tumour_shares(lesions, place, white, wander)
    return {PLAQUE: _plaque_share(lesions, place, white, wander)}


def volumes(labels, affine):
    """Volume in mm^3 of each lesion kind in integer labels: {"plaque_volume": ...}."""
    voxel = abs(np.linalg.det(affine[:3, :3]))
    counts = np.bincount(labels.ravel(), minlength=len(NAMES) + 1)
    return {
        f"{name}_volume": round(float(counts[code] * voxel), 3)
        for code, name in NAMES.items()
        if counts[code]
    }


def _draw_tumour(rng, reference):
    """A mass in the white matter of one hemisphere, away from midline and surface."""
    x = reference.origin[0] + np.arange(reference.depth.shape[0])[:, None, None]
    deep = (reference.depth > 16) & (reference.white > 0.5) & (np.abs(x) > 20)
    deep &= reference.cerebrum & (reference.ventricles < 0.01)
    centre = _choose(rng, deep, 1, reference)[0]
    return Tumour(centre, radius=rng.uniform(14, 19), reach=rng.uniform(9, 14))


def _draw_plaques(rng, reference):
    near = ndimage.gaussian_filter(reference.ventricles, 4.0)
    z = reference.origin[2] + np.arange(reference.depth.shape[2])
    white = reference.cerebrum & (reference.white > 0.5)
    # By the filter's profile 3 to 8 mm from the wall; bodies and atria, not the temporal horns.
    periventricular = white & (near > 0.03) & (near < 0.22) & (z > 6)
    juxtacortical = reference.cerebrum & (np.abs(reference.white - 0.7) < 0.5) & (near < 0.002)
    juxtacortical &= (reference.depth > 5) & (reference.depth < 22) & (z > -10)
    beside = _choose(rng, periventricular, rng.integers(16, 28), reference)
    below = _choose(rng, juxtacortical, rng.integers(4, 8), reference)

    # Along small veins: away from the ventricle, and anyhow below the cortex.
    steps = np.eye(3)[:, :, None]
    points = beside.T[None] - reference.origin[None, :, None]
    up, down = (
        np.stack([ndimage.map_coordinates(near, p, order=1) for p in points + sign * steps])
        for sign in (1, -1)
    )
    axes = np.concatenate([(down - up).T, rng.normal(size=below.shape)])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True) + 1e-9
    count = len(axes)
    lengths = np.stack([rng.uniform(6.5, 10.0, count), rng.uniform(5.0, 6.5, count)], 1)
    lengths[len(beside) :, 0] = rng.uniform(5.0, 7.0, len(below))
    return Plaques(np.concatenate([beside, below]), axes, lengths)


def _choose(rng, mask, count, reference):
    """World coordinates (count, 3) of voxels of the template drawn from a mask."""
    chosen = rng.choice(np.flatnonzero(mask), count, replace=False)
    return np.stack(np.unravel_index(chosen, mask.shape), 1) + reference.origin


def _step(distance, width):
    """From 0 to 1 within about `width` mm of distance 0."""
    return 1 / (1 + np.exp(-np.clip(distance / width, -30, 30)))


def _tumour_shares(tumour, place, white, wander):
    away = place["points"] - tumour.centre.astype(np.float32)[:, None]
    distance = np.sqrt((away**2).sum(0))
    # It respects the ependyma, the pia, the falx and the tentorium.
    solid = (1 - place["ventricles"]) * _step(place["depth"] - 2, 0.7) * place["cerebrum"]
    solid *= _step(np.sign(tumour.centre[0]) * place["points"][0] - 3, 0.7)
    mass = solid * _step(tumour.radius * (1 + 0.16 * wander) - distance, 0.6)
    core = _step(tumour.radius * (1 + 0.26 * wander) - RIM - distance, 0.6)
    # Oedema spreads along white matter, in fingers between the gyri.
    edge = tumour.radius + tumour.reach * (1 + 0.5 * wander)
    oedema = (1 - mass) * solid * white * _step(edge - distance, 1.2)
    parts = {NECROSIS: mass * core, OEDEMA: oedema, ENHANCING: mass * (1 - core)}
    return {code: share.astype(np.float32) for code, share in parts.items()}


def _plaque_share(plaques, place, white, wander):
    share = np.zeros(len(white), np.float32)
    for centre, axis, (length, width) in zip(*plaques, strict=True):
        near = np.flatnonzero((np.abs(place["points"] - centre[:, None]) < 1.5 * length).all(0))
        away = place["points"][:, near] - centre[:, None]
        along = axis @ away
        across = (away**2).sum(0) - along**2
        radius = np.sqrt((along / length) ** 2 + np.clip(across, 0, None) / width**2)
        inside = _step(width * (1 + 0.1 * wander[near] - radius), 0.5)
        share[near] = np.maximum(share[near], inside)
    return share * (white * place["cerebrum"]).astype(np.float32)
