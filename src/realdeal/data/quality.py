"""Quality control of preprocessed volumes: a picture of each, a few measures, and outliers."""

import numpy as np
import pandas as pd
from scipy import ndimage

from realdeal.data import demo, regions
from realdeal.data.volumes import load_labels, load_volume
from realdeal.files import atomic_path, read_json, write_json, write_table
from realdeal.progress import progress

MEASURES = ("brain_volume", "template_correlation", "sharpness", "white_matter_snr")
OUTLIER = 3.5  # robust z score (Iglewicz & Hoaglin 1993)
# The lines of the pictures: region codes and colour.
OUTLINES = (
    ((1, 2, 3, 4, 5), "#ffd54a"),
    ((regions.WHITE_MATTER,), "#4fc3f7"),
    ((regions.VENTRICLES,), "#ff6e6e"),
    ((regions.CEREBELLUM,), "#7ee081"),
)


def inspect(study, subjects):
    """Write study.quality(<subject>.png) and (<subject>.json) of preprocessed subjects."""
    for subject in progress(subjects, description="looking", unit="subject"):
        volume = load_volume(study.volume("original", subject))
        codes = load_labels(study.regions(subject)).data
        write_json(study.quality(f"{subject}.json"), measures(volume, codes))
        plot_outlines(study.quality(f"{subject}.png"), volume, codes, subject)


def measures(volume, codes):
    """What is measured of a `Volume` in [-1, 1] with region codes (X, Y, Z): {measure: number}.

    brain_volume (ml, without ventricles); template_correlation, of the intensities in the brain
    with the template at the same world coordinates, which tells a failed registration;
    sharpness, the variance of the Laplacian inside the brain, low for motion and blur; and
    white_matter_snr, the mean over the noise, robustly taken from what a median filter removes.
    """
    data, brain, white = volume.data, codes > 0, codes == regions.WHITE_MATTER
    inner = ndimage.binary_erosion(brain, iterations=2)
    laplacian = ndimage.laplace(ndimage.gaussian_filter(data, 0.5))
    removed = (data - ndimage.median_filter(data, 3))[white]
    noise = 1.4826 * np.median(np.abs(removed - np.median(removed)))
    return {
        "brain_volume": regions.volumes(codes, volume.affine)["brain_volume"] / 1000,
        "template_correlation": _correlation(data[brain], _template(volume)[brain]),
        "sharpness": float(laplacian[inner].var()),
        "white_matter_snr": float((data[white].mean() + 1) / max(noise, 1e-6)),
    }


def write_quality(study, subjects):
    """Gather the measures of `subjects` in study.quality("quality.csv"), furthest outliers first.

    Beside each measure stands its robust z score over the cohort; `outlier` names the measures
    whose score exceeds `OUTLIER`.
    """
    table = pd.DataFrame([read_json(study.quality(f"{subject}.json")) for subject in subjects])
    table.insert(0, "participant_id", subjects)
    scores = table[list(MEASURES)].apply(robust_z)
    table = table.join(scores.add_suffix("_z").round(2)).round(5)
    far = scores.abs() > OUTLIER
    table["outlier"] = ["|".join(np.array(MEASURES)[row]) for row in far.to_numpy()]
    order = scores.abs().max(axis=1).sort_values(ascending=False, kind="stable").index
    write_table(study.quality("quality.csv"), table.loc[order])


def robust_z(values):
    """Distance from the median in units of a standard deviation that outliers do not enlarge.

    0 everywhere if more than half of the values are the same.
    """
    distance = values - np.median(values)
    spread = 1.4826 * np.median(np.abs(distance))
    return distance / spread if spread > 0 else 0 * distance


def plot_outlines(path, volume, codes, title):
    """Draw three planes through the middle of the brain with the outlines of its regions."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    middle = np.round(ndimage.center_of_mass(codes > 0)).astype(int)
    figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), facecolor="black", layout="constrained")
    figure.suptitle(title, color="white", fontsize=10)
    for column, normal in enumerate((2, 1, 0)):
        plane = np.take(volume.data, middle[normal], axis=normal).T
        labels = np.take(codes, middle[normal], axis=normal).T
        aspect = np.delete(volume.spacing, normal)
        for row, axis in enumerate(axes[:, column]):
            axis.imshow(
                plane, origin="lower", cmap="gray", vmin=-1, vmax=1, aspect=aspect[1] / aspect[0]
            )
            axis.set(xticks=[], yticks=[])
            for members, colour in OUTLINES if row else ():
                mask = np.isin(labels, members)
                if mask.any():
                    axis.contour(mask, levels=[0.5], colors=colour, linewidths=0.8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)


def _correlation(one, other):
    """Pearson's correlation, 0 with what is the same everywhere: beside the template is nothing."""
    return float(np.corrcoef(one, other)[0, 1]) if np.ptp(other) > 0 else 0.0


def _template(volume):
    """The template's intensities (X, Y, Z) at the voxels of a volume, about as sharp as these."""
    template = demo.template()
    blurred = ndimage.gaussian_filter(template.t1w, 0.4 * float(volume.spacing.max()))
    # The template has voxels of 1 mm along the world's axes.
    offset = volume.affine[:3, 3] - template.origin
    return ndimage.affine_transform(
        blurred, volume.affine[:3, :3], offset, volume.data.shape, order=1
    )
