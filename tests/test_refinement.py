"""Traversal, masks and engine of the refiner."""

import numpy as np
import pytest
import torch

from realdeal.diffusion.schedules import make_schedule
from realdeal.refinement.engine import refine_volumes
from realdeal.refinement.joint import padded_shape, refine_jointly, tiles
from realdeal.refinement.masks import DIRECTIONS, FULL, draw_masks, make_mask
from realdeal.refinement.samplers import denoising_sampler
from realdeal.refinement.traversal import published_traversal
from realdeal.training.refiner import masked_loss, training_inputs

SCHEDULE = make_schedule(
    {"timesteps": 1000, "beta_start": 0.0015, "beta_end": 0.0205, "kind": "scaled_linear_beta"},
    "epsilon",
)
CASES = [
    ((224, 288, 224), 64, 32),
    ((64, 80, 64), 32, 16),
    ((30, 41, 17), 16, 4),
    ((9, 8, 20), 8, 4),
]


def test_published_run_is_139_patches_in_20_passes():
    plan = published_traversal((224, 288, 224), 64, 32)
    assert plan.padding == ((0, 0), (16, 16), (16, 16))
    assert [len(p.corners) for p in plan.passes] == [1] + 8 * [1] + 6 * [5] + 5 * [20]
    assert plan.patches == 139
    starts = [p.corners[0] for p in plan.passes]
    assert starts[0] == (96, 128, 96)
    assert [s[1] for s in starts[1:9]] == [96, 64, 32, 0, 160, 192, 224, 256]
    assert [s[2] for s in starts[9:15]] == [64, 32, 0, 128, 160, 192]
    assert [s[0] for s in starts[15:]] == [64, 32, 0, 128, 160]


@pytest.mark.parametrize("shape, size, stride", CASES)
def test_every_voxel_is_written_once_and_known_parts_are_as_announced(shape, size, stride):
    plan = published_traversal(shape, size, stride)
    written = np.zeros(plan.padded_shape, np.int8)
    for number, pass_ in enumerate(plan.passes):
        before = written.copy()
        mask = make_mask(size, pass_.direction, stride).numpy()
        for corner in pass_.corners:
            window = tuple(slice(c, c + size) for c in corner)
            assert before[window].shape == (size,) * 3
            # What is announced as known is written, what is to be made is not.
            assert (before[window] == 1 - mask).all()
            assert (pass_.direction is FULL) == (number == 0)
            written[plan.written(corner, pass_.direction)] += 1
    assert (written == 1).all()


def test_stride_must_divide_the_patch():
    with pytest.raises(ValueError, match="divide"):
        published_traversal((32, 32, 32), 16, 5)


def test_masks():
    for axis, side in DIRECTIONS:
        mask = make_mask(8, (axis, side), 4)
        assert mask.sum() == 4 * 8 * 8
        assert mask.select(axis, 0 if side == 0 else 7).all()
        assert not mask.select(axis, 7 if side == 0 else 0).any()
    masks = draw_masks(4000, 2, 1, 0.1, torch.Generator().manual_seed(0))
    full = masks.flatten(1).all(1).float().mean()
    assert abs(full - 0.1) < 0.02


def test_loss_has_no_gradient_where_the_mask_is_zero():
    predicted = torch.randn(2, 1, 4, 4, 4, requires_grad=True)
    mask = torch.stack([make_mask(4, (0, 0), 2), make_mask(4, (2, 1), 2)])[:, None]
    masked_loss(predicted, torch.randn(2, 1, 4, 4, 4), mask).backward()
    assert (predicted.grad[mask == 0] == 0).all() and (predicted.grad[mask == 1] != 0).all()


def test_training_inputs_keep_the_known_part_clean():
    original, noise, other = torch.randn(3, 1, 1, 4, 4, 4)
    mask = make_mask(4, (1, 0), 2)[None, None]
    abar = torch.full((1, 1, 1, 1, 1), 0.3)
    noisy, previous = training_inputs(original, noise, other, mask, abar)
    known = mask == 0
    assert torch.equal(noisy[known], original[known])
    assert torch.equal(previous[known], original[known])
    assert torch.allclose(previous[~known], other[~known])
    expected = 0.3**0.5 * original + 0.7**0.5 * noise
    assert torch.allclose(noisy[~known], expected[~known], atol=1e-5)


def refine(volumes, seeds, batch_size=16, **options):
    """With a network whose answer is the coarse volume itself."""

    def network(x, t, coarse, previous):
        abar = SCHEDULE.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
        return (x - abar.sqrt() * (coarse + 0.05 * previous.tanh())) / (1 - abar).sqrt()

    plan = published_traversal(volumes[0].shape, 8, 4)
    return refine_volumes(
        network,
        volumes,
        plan,
        denoising_sampler(SCHEDULE, 4),
        generators=[torch.Generator().manual_seed(s) for s in seeds],
        batch_size=batch_size,
        **options,
    )


def test_engine_is_deterministic_and_a_volume_does_not_depend_on_its_company():
    rng = np.random.default_rng(0)
    volumes = [rng.uniform(-0.8, 0.8, (12, 19, 10)).astype(np.float32) for _ in range(3)]
    together = refine(volumes, [1, 2, 3])
    alone = refine(volumes[1:2], [2], batch_size=1)
    assert together[1].shape == (12, 19, 10)
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)
    assert not np.allclose(together[1], refine(volumes[1:2], [5])[0], atol=1e-3)
    np.testing.assert_allclose(together[0], volumes[0], atol=0.06)


def test_background_stays_background():
    volume = np.full((12, 12, 12), 0.3, np.float32)
    volume[:, :4] = -1
    (refined,) = refine([volume], [0], background=-0.9)
    assert (refined[:, :4] == -1).all() and (refined[:, 4:] > -0.9).all()


def test_patches_that_make_background_alone_are_skipped():
    volume = np.full((16, 24, 16), -1, np.float32)
    volume[4:12, 4:12, 4:12] = 0.3
    counts = []

    def counting(x, t, coarse, previous):
        counts.append(len(x))
        abar = SCHEDULE.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
        return (x - abar.sqrt() * coarse) / (1 - abar).sqrt()

    plan = published_traversal(volume.shape, 8, 4)
    results, done = [], []
    for background in (None, -0.9):
        counts.clear()
        (refined,) = refine_volumes(
            counting,
            [volume],
            plan,
            denoising_sampler(SCHEDULE, 2),
            generators=[torch.Generator().manual_seed(0)],
            background=background,
            report=done.append,
        )
        results.append((sum(counts), refined))
    (all_patches, whole), (some_patches, skipped) = results
    assert all_patches == 2 * plan.patches and some_patches < 0.7 * all_patches
    assert sum(done) == 2 * plan.patches  # the progress bar counts them all
    np.testing.assert_allclose(skipped, whole, atol=1e-4)


@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_joint_patches_cover_every_voxel_once_on_a_moving_grid(step):
    padded = padded_shape((30, 41, 17), 16)
    assert padded == (32, 48, 32)
    written = np.zeros(padded, int)
    corners = tiles(padded, 16, step)
    for corner in corners:
        axes = [np.arange(c, c + 16) % n for c, n in zip(corner, padded, strict=True)]
        written[np.ix_(*axes)] += 1
    assert (written == 1).all() and len(corners) == 2 * 3 * 2
    assert (corners[0] == (0, 0, 0)) == (step == 0)


def jointly(volume, seed=0, background=None, network=None):
    def copy(x, t, coarse, previous):
        abar = SCHEDULE.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
        return (x - abar.sqrt() * (coarse + 0.05 * previous.tanh())) / (1 - abar).sqrt()

    return refine_jointly(
        network or copy,
        volume,
        8,
        denoising_sampler(SCHEDULE, 4),
        generator=torch.Generator().manual_seed(seed),
        background=background,
    )


def test_joint_refinement_is_deterministic_and_keeps_the_background():
    rng = np.random.default_rng(0)
    volume = rng.uniform(-0.8, 0.8, (12, 19, 10)).astype(np.float32)
    volume[:, :3] = -1
    refined = jointly(volume, 1)
    assert refined.shape == volume.shape and refined.dtype == np.float32
    np.testing.assert_array_equal(refined, jointly(volume, 1))
    assert np.abs(refined - jointly(volume, 2)).max() > 1e-3
    np.testing.assert_allclose(refined, volume, atol=0.06)
    assert (jointly(volume, 1, background=-0.9)[:, :3] == -1).all()


def test_joint_refinement_skips_background():
    counts = []

    def counting(x, t, coarse, previous):
        counts.append(len(x))
        abar = SCHEDULE.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
        return (x - abar.sqrt() * coarse) / (1 - abar).sqrt()

    volume = np.full((32, 24, 24), -1, np.float32)
    volume[2:14, 2:22, 2:22] = -0.2
    refined = jointly(volume, background=-0.9, network=counting)
    assert sum(counts) < 0.8 * 4 * 4 * 3 * 3
    np.testing.assert_allclose(refined, volume, atol=1e-3)
