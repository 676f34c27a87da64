"""What tissues and lesions look like in each kind of scan of the demo cohort.

Signals in units in which fat-free white matter has about 0.8 in a T1w scan. They keep the order
that radiologists read by, within the range that preprocessing.intensity [0, 1.2] resolves; they
are chosen, not computed from relaxation times.
"""

from typing import NamedTuple


class Contrast(NamedTuple):
    """Mean signals of one modality."""

    white: float
    grey: float
    csf: float
    # How much of what the T1w template has beyond its tissues shows. It is myelin and iron (in
    # thalamus, pallidum, callosum), which shorten T1 and T2: bright in T1w, dark in the others.
    regional: float
    necrosis: float
    oedema: float
    enhancing: float
    plaque: float
    vessels: float | None = None  # of veins and choroid plexus, where contrast agent shows them


T1W = Contrast(
    white=0.80,
    grey=0.50,
    csf=0.14,
    regional=1.0,
    necrosis=0.24,
    oedema=0.58,
    enhancing=0.46,
    plaque=0.38,
)

CONTRASTS = {
    "T1w": T1W,
    # Gadolinium stays in vessels, of which grey matter has more, and leaks where the blood-brain
    # barrier is broken or absent: rim of a glioblastoma, choroid plexus.
    "T1ce": T1W._replace(grey=0.56, enhancing=1.08, vessels=1.5),
    "T2w": Contrast(
        white=0.42,
        grey=0.60,
        csf=1.05,
        regional=-0.5,
        necrosis=0.98,
        oedema=0.84,
        enhancing=0.66,
        plaque=0.86,
    ),
    # As T2w, without the signal of fluid; necrotic fluid is rich in protein and shows a little.
    "FLAIR": Contrast(
        white=0.44,
        grey=0.62,
        csf=0.10,
        regional=-0.4,
        necrosis=0.38,
        oedema=0.90,
        enhancing=0.74,
        plaque=0.98,
    ),
    "PD": Contrast(
        white=0.54,
        grey=0.74,
        csf=0.88,
        regional=-0.3,
        necrosis=0.92,
        oedema=0.90,
        enhancing=0.80,
        plaque=0.98,
    ),
}
