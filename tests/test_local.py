"""The local denoiser: against posterior means computed one by one, and what it borrows."""

import numpy as np
import pytest
import torch
from small_networks import SCHEDULE, small_unet

from realdeal.diffusion.conditioning import Conditioning
from realdeal.diffusion.local import MARK_WIDTH, RIDGE, LocalDenoiser, marks_of
from realdeal.diffusion.schedules import make_schedule, predicted_noise_and_clean
from realdeal.diffusion.unseen import borrow, pairs
from realdeal.networks.unets import LatentUNet
from realdeal.training.ldm import latent_statistics

SHAPE = (2, 4, 3, 5)
ALPHAS = [0.9, 0.5, 0.1, 0.01, 0.999]


def fitted(windows, spread=0.2, groups=None):
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(6, 2, generator=rng)
    latents = torch.randn(6, *SHAPE, generator=rng).half().float()
    local = LocalDenoiser(6, SHAPE, 2, windows, spread)
    local.fit(latents, features, 2, groups)
    noisy = torch.randn(5, *SHAPE, generator=rng)
    return local, latents, features, noisy


def expected(noisy, alpha, examples, spread, width):
    """Location by location, with explicit loops over windows: E[clean | noisy around there]."""
    a, variance = alpha**0.5, alpha * spread + 1 - alpha
    reach, made = width // 2, np.zeros_like(noisy)
    for place in np.ndindex(*noisy.shape[1:]):
        around = tuple(slice(max(0, p - reach), p + reach + 1) for p in place)
        misfit = [((noisy - a * x)[:, *around] ** 2).sum() / (2 * variance) for x in examples]
        weights = np.exp(min(misfit) - misfit)
        weights /= weights.sum()
        for weight, x in zip(weights, examples, strict=True):
            here = x[:, *place]
            gain = a * spread / variance
            made[:, *place] += weight * (here + gain * (noisy[:, *place] - a * here))
    return made


@pytest.mark.parametrize("width", [1, 3, 9])
def test_the_guess_is_the_posterior_mean_of_a_mixture_around_what_matches_nearby(width):
    """A window as wide as the latents gives the posterior mean of the whole mixture."""
    local, latents, features, noisy = fitted([[0, width]])
    told = features[:5]
    made = local(noisy, torch.tensor(ALPHAS), told)
    mean = local._mean(told).view(5, *SHAPE).double()
    deviations = (latents - local._mean(features).view(6, *SHAPE)).half().double()
    for i, alpha in enumerate(ALPHAS):
        examples = (mean[i] + deviations).numpy()
        right = expected(noisy[i].double().numpy(), alpha, examples, 0.2, width)
        assert np.allclose(made[i], right, atol=1e-3), (alpha, width)


def test_the_window_shrinks_as_the_noise_does():
    local, _, features, noisy = fitted([[0, 5], [0.3, 3], [4, 1]])
    assert [local._window(ratio) for ratio in (0, 0.29, 0.3, 3.9, 4, 1000)] == [5, 5, 3, 3, 1, 1]
    narrow, wide = fitted([[0, 1]])[0], fitted([[0, 5]])[0]
    signal = torch.tensor([0.9, 0.1])  # ratios of 9 and 0.11
    made = local(noisy[:2], signal, features[:2])
    assert torch.equal(made[0], narrow(noisy[:2], signal, features[:2])[0])
    assert torch.equal(made[1], wide(noisy[:2], signal, features[:2])[1])


def test_the_guess_does_not_lose_precision_under_autocast():
    local, _, features, noisy = fitted([[0, 5]])
    right = local(noisy, torch.tensor(ALPHAS), features[:5])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(local(noisy, torch.tensor(ALPHAS), features[:5]), right)


def test_groups_deviate_as_their_own_subjects_do():
    groups = torch.tensor([1, 1, 2, 2, 2, 1])
    local, latents, features, noisy = fitted([[0, 9]], groups=groups)
    local.slopes.zero_()
    local.deviations.copy_(latents)
    signal = torch.full((5,), 0.5)
    made = local(noisy, signal, features[:5], torch.tensor([1, 2, 0, 7, 2]))
    for i, rows in enumerate(([0, 1, 5], [2, 3, 4], range(6), range(6), [2, 3, 4])):
        right = expected(noisy[i].double().numpy(), 0.5, latents[list(rows)].numpy(), 0.2, 9)
        assert np.allclose(made[i], right, atol=1e-3)


def test_marks_are_where_a_subject_deviates_most_from_its_group():
    rng = torch.Generator().manual_seed(0)
    deviations = torch.randn(4, 2, 6, 6, 6, generator=rng)
    deviations[1, :, 2, 3, 4] += 20
    share = MARK_WIDTH**3 / 6**3
    marks = marks_of(deviations, share)
    assert marks.shape == (4, 1, 6, 6, 6) and (marks.sum((1, 2, 3, 4)) == MARK_WIDTH**3).all()
    assert marks[1, 0, 1:4, 2:5, 3:6].all()  # all windows that hold the mass, no others
    assert torch.equal(marks, marks_of(deviations + 3, share))
    assert not marks_of(deviations, 0).any()


def test_the_mark_of_one_subject_is_drawn_whole_in_a_mosaic():
    """Against explicit loops: odds of each mark, that mark inside it, the mosaic elsewhere."""
    groups, share, alpha, spread = torch.tensor([1, 1, 2, 2, 2, 1]), 0.2, 0.5, 0.2
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(6, *SHAPE, generator=rng).half().float()
    local = LocalDenoiser(6, SHAPE, 2, [[0, 3], [2, 1]], spread, share)
    local.fit(latents, torch.zeros(6, 2), 2, groups)
    noisy = torch.randn(1, *SHAPE, generator=rng)
    made = local(noisy, torch.tensor([alpha]), torch.zeros(1, 2), torch.tensor([2]))[0]
    examples = latents[2:5].numpy()
    marks = marks_of(latents[2:5], share).numpy()
    assert np.array_equal(local.marks[2:5], marks)
    a, variance, seen = alpha**0.5, alpha * spread + 1 - alpha, noisy[0].numpy()
    usual = examples.mean(0)
    odds = []
    for example, mark in zip(examples, marks, strict=True):
        gain = (seen - a * usual) ** 2 - (seen - a * example) ** 2
        odds.append(np.exp((gain * mark).sum() / (2 * variance)))
    odds = np.array(odds) / sum(odds)
    # expected() with no spread around subjects is what of them is nearest, at a noise that is
    # the same: 1 - signal = variance.
    signal = alpha / (alpha + variance)
    nearest = expected(seen * (signal / alpha) ** 0.5, signal, examples, 0, 3)
    chosen = odds[:, None, None, None, None] * marks
    nearest = (chosen * examples).sum(0) + (1 - chosen.sum(0)) * nearest
    right = nearest + a * spread / variance * (seen - a * nearest)
    assert np.allclose(made, right, atol=1e-4)
    # Once the window has shrunk, details may be anyone's.
    late = torch.tensor([0.9]), torch.zeros(1, 2), torch.tensor([2])
    plain = LocalDenoiser(6, SHAPE, 2, [[0, 1]], spread)
    plain.fit(latents, torch.zeros(6, 2), 2, groups)
    assert torch.equal(local(noisy, *late), plain(noisy, *late))


def test_slopes_are_those_of_ridge_regression_levels_before_pairs():
    rng = torch.Generator().manual_seed(0)
    features, latents = (
        torch.randn(40, 3, generator=rng),
        torch.randn(40, 1, 2, 2, 2, generator=rng),
    )
    local = LocalDenoiser(40, (1, 2, 2, 2), 3, [[0, 3]], 0.1)
    local.fit(latents, features, effects=2)
    x = ((features - features.mean(0)) / features.std(0)).numpy().astype(np.float64)
    z, first, second = latents.flatten(1).numpy().astype(np.float64), x[:, :2], x[:, 2:]
    one = np.linalg.inv(first.T @ first + RIDGE * np.eye(2)) @ first.T @ z
    two = np.linalg.inv(second.T @ second + RIDGE * np.eye(1)) @ second.T @ (z - first @ one)
    assert np.allclose(local.slopes, np.concatenate([one, two]), atol=1e-5)


def test_a_network_starts_as_the_local_denoiser():
    """An untrained U-Net adds nothing, so the clean latents it implies are the guess."""
    covariates = [{"name": "age", "range": [0, 1]}, {"name": "sex", "levels": ["F", "M"]}]
    for prediction in ("v_prediction", "epsilon"):
        conditioning = Conditioning(covariates, "concatenate")
        assert (conditioning.effects, conditioning.width) == (3, 3)
        local = LocalDenoiser(9, (1, 4, 4, 4), 3, [[0, 3]], 0.2)
        known = torch.cat([torch.rand(9, 1), torch.arange(9)[:, None] % 2], 1)
        local.fit(
            torch.randn(9, 1, 4, 4, 4),
            conditioning.features(known),
            conditioning.effects,
            conditioning.group(known),
        )
        schedule = make_schedule(SCHEDULE, prediction)
        network = LatentUNet(small_unet(8, 8), 1, False, conditioning, local, schedule)
        z, t = torch.randn(2, 1, 4, 4, 4), torch.tensor([300, 300])
        told = torch.tensor([[0.2, 1.0], [0.7, 0.0]])
        output = network(z, t, told)
        signal = float(schedule.alphas_cumprod[300])
        _, clean = predicted_noise_and_clean(output, z, signal, prediction)
        features, group = conditioning.features(told), conditioning.group(told)
        guess = local(z, torch.full((2,), signal), features, group)
        assert torch.allclose(clean, guess, atol=1e-4)


def test_groups_are_combinations_of_levels():
    covariates = [
        {"name": "age", "range": [0, 1]},
        {"name": "pathology", "levels": ["healthy", "dementia"]},
        {"name": "modality", "levels": ["T1w", "T2w", "PD"]},
    ]
    conditioning = Conditioning(covariates, "concatenate", dropout=0.1)
    told = torch.tensor([[0.5, 0, 0], [0.1, 1, 2], [0.2, 1, 0]])
    assert conditioning.group(told).tolist() == [1, 6, 4]
    assert conditioning.group(told, torch.tensor([True, False, True])).tolist() == [1, 0, 4]
    assert (conditioning.effects, conditioning.width) == (6, 12)


def cohort(people=24, modalities=3):
    """Scans of people, pathology 0 or 1, whose modality 2 is 1 + twice modality 1, but for noise;
    modality 0 has nothing to do with them. Pathology 1 brightens modality 1 at one place."""
    rng = torch.Generator().manual_seed(0)
    shape = (1, 3, 3, 3)
    latents, names, levels = [], [], []
    for person in range(people):
        sick = person % 2
        one = torch.randn(shape, generator=rng)
        one[0, 1, 1, 1] += 5 * sick
        noise = 0.01 * torch.randn(shape, generator=rng)
        scans = [torch.randn(shape, generator=rng), one, 1 + 2 * one + noise]
        for modality in range(modalities):
            latents.append(scans[modality])
            names.append(f"person-{person}")
            levels.append([sick, modality])
    return torch.stack(latents), names, torch.tensor(levels)


def test_unseen_combinations_are_borrowed_from_the_kindred_scan_of_the_same_people():
    latents, people, levels = cohort()
    held = (levels == torch.tensor([1, 2])).all(1)
    names = [name for name, out in zip(people, held, strict=True) if not out]
    made, told = borrow(latents[~held], names, levels[~held], [2, 3])
    assert told.tolist() == [[1, 2]] * 12
    # Also where the sick alone are bright, by 10: the line of the healthy goes on.
    assert (made - latents[held]).abs().mean() < 0.3


def test_nothing_is_borrowed_where_nothing_is_missing_or_nobody_has_both():
    latents, people, levels = cohort()
    made, told = borrow(latents, people, levels, [2, 3])
    assert made.shape == (0, 1, 3, 3, 3) and told.shape == (0, 2)
    held = (levels == torch.tensor([1, 2])).all(1)
    strangers = [f"scan-{i}" for i in range(len(latents))]
    names = [name for name, out in zip(strangers, held, strict=True) if not out]
    made, _ = borrow(latents[~held], names, levels[~held], [2, 3])
    assert len(made) == 0


def test_pairs_are_scans_of_one_person_that_differ_in_one_category():
    levels = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [0, 1]])
    people = ["a", "a", "b", "b", "c"]
    assert pairs(people, levels, 1, 0, 1).tolist() == [[0, 2], [1, 3]]
    assert pairs(people, levels, 0, 0, 1).shape == (2, 0)


def test_latents_that_hardly_vary_are_not_blown_up(tmp_path):
    """Two subjects, one channel: voxels that vary by 0, 0.02, 0.3 and 0.5 around their mean."""
    spread = np.array([0, 0.02, 0.3, 0.5], np.float32).reshape(1, 1, 2, 2)
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path, sign in zip(paths, (-1, 1), strict=True):
        np.save(path, 0.5 + sign * spread)
    typical = float(np.sqrt((spread**2).mean()))
    mean, std, low, high = latent_statistics(paths, per_voxel=True, std_floor=0.5)
    assert torch.allclose(mean, torch.full_like(mean, 0.5))
    expected = np.maximum(spread, typical / 2)
    assert np.allclose(std, expected)
    assert np.allclose(low, 0.5 - spread) and np.allclose(high, 0.5 + spread)
    _, std, _, _ = latent_statistics(paths, per_voxel=True)
    assert np.allclose(std, np.maximum(spread, 1e-4))
    mean, std, _, _ = latent_statistics(paths, per_voxel=False, std_floor=0.5)
    assert mean.shape == (1, 1, 1, 1) and np.isclose(float(std), typical)
