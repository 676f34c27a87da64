"""Scores of whole volumes: how alike pairs are, how faithful reconstructions are."""

import numpy as np

from realdeal.data.volumes import load_volume
from realdeal.errors import InputError
from realdeal.metrics.diversity import four_g_r_ssim, ms_ssim, psnr, ssim
from realdeal.metrics.protocol import write_scores
from realdeal.progress import progress

PAIRED = {"ms_ssim": ms_ssim, "4_g_r_ssim": four_g_r_ssim}


def draw_pairs(names, count, rng):
    """`count` different pairs of different names, or all if there are fewer.

    Drawn as chords of random circles, so that every name is in about as many pairs.
    """
    names, pairs = list(names), set()
    count = min(count, len(names) * (len(names) - 1) // 2)
    while len(pairs) < count:
        order = rng.permutation(len(names))
        for first, second in zip(order, np.roll(order, 1), strict=True):
            if first != second and len(pairs) < count:
                pairs.add((min(first, second), max(first, second)))
    return [(names[i], names[j]) for i, j in sorted(pairs)]


def score_diversity(study, groups, pairs, seed):
    """MS-SSIM and 4-G-R-SSIM of pairs: study.scores("diversity").

    `groups` is {variant: {group: [[folder, name], ...]}}, where a folder is a variant on disk;
    pairs lie within a group, at most `pairs` for each variant, shared by its groups. Brain LDM
    takes 1,000. The column region holds the group, subject the pair.
    """
    rows = []
    for variant, members in groups.items():
        for group, names in members.items():
            rng = np.random.default_rng([seed, len(names)])
            drawn = draw_pairs(names, -(-pairs // len(members)), rng)
            cached = {}
            for pair in progress(drawn, description=f"pairs of {variant}", unit="pair"):
                volumes = []
                for folder, name in pair:
                    if (folder, name) not in cached:
                        if len(cached) > 20:  # bounded memory
                            cached.pop(next(iter(cached)))
                        cached[folder, name] = load_volume(study.volume(folder, name)).data
                    volumes.append(cached[folder, name])
                for metric, measure in PAIRED.items():
                    rows.append(
                        {
                            "metric": metric,
                            "variant": variant,
                            "region": group,
                            "subject": "+".join(name for _, name in pair),
                            "value": measure(*volumes),
                        }
                    )
    return write_scores(study.scores("diversity"), rows)


def score_reconstruction(study, subjects):
    """PSNR and SSIM of each reconstruction to its original: study.scores("reconstruction")."""
    rows = []
    for subject in progress(subjects, description="reconstructions", unit="subject"):
        original = load_volume(study.volume("original", subject)).data
        made = load_volume(study.volume("reconstructed", subject)).data
        for metric, measure in {"psnr": psnr, "ssim": ssim}.items():
            value = measure(original, made)
            if not np.isfinite(value):
                raise InputError(f"{study.volume('reconstructed', subject)}: is the original")
            rows.append(
                {"metric": metric, "variant": "reconstructed", "subject": subject, "value": value}
            )
    return write_scores(study.scores("reconstruction"), rows)
