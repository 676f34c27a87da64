"""Ways of refining: what they cost, which hold, and tables of one and of several studies."""

import numpy as np
import pandas as pd
import pytest

from realdeal.cli import main
from realdeal.paper.refinement_study import METRICS, _rows, draw, markdown
from realdeal.refinement.grid import PAPER_GRID, evaluations, patch_grid
from realdeal.study import Study

PUBLISHED = {"traversal": "published", "sampler": "ddpm", "steps": 1000}
JOINT = {"traversal": "joint", "sampler": "texture", "steps": 2}
WAYS = ["published-ddpm-1000", "joint-texture-2", "joint-texture-0"]


def test_evaluations_on_the_papers_grid():
    assert evaluations(PUBLISHED, *PAPER_GRID) == 139_000
    assert evaluations(JOINT, *PAPER_GRID) == 160


def test_patches_meet_where_the_traversal_says():
    # y and z of the published runs are padded by 16 voxels on either side.
    assert patch_grid(PUBLISHED, *PAPER_GRID) == (32, (0, 16, 16))
    assert patch_grid(JOINT | {"steps": 1}, *PAPER_GRID) == (64, (0, 0, 0))
    spacing, offsets = patch_grid(JOINT, *PAPER_GRID)
    assert spacing == 64 and all(0 < offset < 64 for offset in offsets)


def measured(better):
    """Values of three ways: the second better than the first where `better`, the third never."""
    rows = []
    for (metric, region), (_, direction) in METRICS.items():
        for way, value in (("reconstructed", 3.0), *zip(WAYS, (2.0, 1.0, 3.0), strict=True)):
            if direction > 0 or (way == WAYS[1] and not better):
                value = 4 - value
            width = 0.1 if way == WAYS[0] else 0.01
            rows.append(
                {
                    "metric": metric,
                    "region": region,
                    "candidate": way,
                    "value": value,
                    "ci_low": value - width,
                    "ci_high": value + width,
                    "scale": 0.5,
                }
            )
    return pd.DataFrame(rows)


def scores(better=True):
    table = pd.concat(
        [_rows(measured(better), key, ["reconstructed", *WAYS]) for key in METRICS],
        ignore_index=True,
    )
    for column, values in (
        ("evaluations", [np.nan, 23_000, 24, 0]),
        ("seconds", [np.nan, 3000, 2, 0.5]),
        ("evaluations_paper_grid", [np.nan, 139_000, 160, 0]),
    ):
        table[column] = values * len(METRICS)
    return table


def test_a_way_holds_within_the_first_ways_interval_or_beyond():
    table = scores()
    held = table.groupby("way")["holds"].agg(["min", "max"])
    assert held.loc[WAYS[0]].all() and held.loc[WAYS[1]].all()
    assert not held.loc["reconstructed"].any() and not held.loc[WAYS[2]].any()
    first, second, third, fourth = markdown(table).splitlines()[2:6]
    assert "*" in first and "| 958x |" in third and "| 1,500x |" in third and "*" not in third
    assert "| 0 | - | 0 |" in fourth and fourth.count("*") == 2 * len(METRICS)


def test_the_figure_is_drawn_without_the_way_that_evaluates_nothing(tmp_path):
    draw(scores(), tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 10_000


def test_several_seeds_in_one_table(tmp_path, capsys):
    for seed, better in enumerate((True, True, False)):
        path = Study(tmp_path / str(seed)).way() / "scores.csv"
        path.parent.mkdir(parents=True)
        scores(better).to_csv(path, index=False)
    studies = [str(tmp_path / str(seed)) for seed in range(3)]
    assert main(["ways", *studies, "--output", str(tmp_path / "ways.md")]) == 0
    lines = (tmp_path / "ways.md").read_text().splitlines()
    assert lines[3].startswith("| published-ddpm-1000 | 3 | 139,000 | 2 (3/3)")
    assert lines[4].startswith("| joint-texture-2 | 3 | 160 | 1.67 (2/3)")
    assert lines[-1].startswith("Made of 0/refinement/scores.csv ") and lines[-1].count(",") == 2
    assert main(["ways", str(tmp_path / "none"), "--output", str(tmp_path / "x.md")]) == 1
    assert "run snakemake refinement_study first" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [0, 3])
def test_steps_of_the_joint_traversal_move_the_grid(steps):
    spacing, offsets = patch_grid(JOINT | {"steps": steps}, (64, 80, 64), 32, 16)
    assert spacing == 32 and (offsets == (0, 0, 0)) == (steps == 0)
