"""Intensities of anyone's volumes, mapped to those that a refiner has learnt and back."""

import logging
from typing import NamedTuple

import numpy as np

from realdeal.errors import InputError

QUANTILE = 0.95  # of the foreground; higher ones hang on a few bright vessels
FOREGROUND = -0.9  # in [-1, 1]
BRAIN_LITRES = (0.5, 2.2)  # a child's small brain; more than this has a skull around it

log = logging.getLogger(__name__)


class Intensity(NamedTuple):
    """A linear map: `low`, the background, becomes -1 and `high` becomes 1."""

    low: float
    high: float

    def to_model(self, data):
        """float32 in [-1, 1]; what lies outside low and high is clipped."""
        scaled = (data - self.low) * (2 / (self.high - self.low)) - 1
        return np.clip(scaled, -1, 1).astype(np.float32)

    def back(self, data):
        """The original units, float32."""
        return ((data + 1) * ((self.high - self.low) / 2) + self.low).astype(np.float32)


def foreground_quantile(volumes):
    """The `QUANTILE` of the foreground of volumes in [-1, 1], averaged over the volumes."""
    return float(np.mean([np.quantile(v[v > FOREGROUND], QUANTILE) for v in volumes]))


def find_intensity(data, expected):
    """The `Intensity` of a skull-stripped volume (X, Y, Z) of unknown units.

    Volumes in [-1, 1] with background -1 stay as they are. Otherwise the smallest value must be
    the background, and the foreground's `QUANTILE` is mapped to the `expected` one, that of the
    volumes the refiner has learnt. InputError if there is no flat background.
    """
    low, high = float(data.min()), float(data.max())
    if -1.001 <= low <= FOREGROUND and high <= 1.001:
        return Intensity(-1.0, 1.0)
    reach = float(np.quantile(data, 0.999)) - low
    if (data < low + 0.02 * reach).mean() < 0.05:
        raise InputError(
            f"hardly any voxel is near the smallest value, {low:g}: no flat background; "
            "strip the skull and set the background to one value"
        )
    foreground = data[data > low + 0.05 * reach]
    bright = float(np.quantile(foreground, QUANTILE))
    return Intensity(low, low + (bright - low) * 2 / (expected + 1))


def check_litres(path, foreground, spacing):
    """Warn if a mask (X, Y, Z) with voxels of `spacing` (three, mm) has not the size of a brain."""
    litres = foreground.sum() * np.prod(spacing) * 1e-6
    if not BRAIN_LITRES[0] <= litres <= BRAIN_LITRES[1]:
        log.warning(
            "%s: its foreground has %.2f litres, a brain about 1.2; is the skull stripped, "
            "is the voxel size right?",
            path,
            litres,
        )
