"""The table over seeds, of two small studies written by hand."""

import hashlib

import pandas as pd
import pytest

from realdeal.cli import main
from realdeal.paper.items import TABLES
from realdeal.paper.tables import COLUMNS
from realdeal.study import Study


def write_study(root, closure):
    study = Study(root)
    for number, table in TABLES.items():
        rows = []
        for column in table.columns:
            key = {"table": number, **column._asdict(), "value": 1.0}
            rows.append(key | {"row": "Recon."})
            share = {"closure": closure, "closure_low": closure - 0.1, "closure_high": 0.9}
            rows.append(key | {"row": "RealDeal", **(share if column.metric != "seam" else {})})
        path = study.table(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).reindex(columns=COLUMNS).to_csv(path, index=False)
    study.provenance.write_text("{}")


def test_closures_of_seeds_stand_side_by_side(tmp_path, capsys):
    for name, closure in (("seed-0", 0.5), ("seed-1", 0.7)):
        write_study(tmp_path / name, closure)
    target = tmp_path / "seeds.md"
    roots = [str(tmp_path / "seed-0"), str(tmp_path / "seed-1")]
    assert main(["seeds", *roots, "--output", str(target)]) == 0
    lines = target.read_text().splitlines()
    closed = sum(c.metric != "seam" for table in TABLES.values() for c in table.columns)
    assert len(lines) == 2 + closed + 2
    digest = hashlib.sha256(b"{}").hexdigest()[:16]
    origins = [f"{name}/provenance.json {digest}" for name in ("seed-0", "seed-1")]
    assert lines[-1] == "Made of " + ", ".join(origins)
    assert "| 50% [40%, 90%] | 70% [60%, 90%] | 60% |" in lines[2]
    assert "60%" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_a_study_that_does_not_fit_is_named(tmp_path, capsys, damage):
    for name in ("seed-0", "seed-1"):
        write_study(tmp_path / name, 0.5)
    path = Study(tmp_path / "seed-1").table(1)
    if damage == "missing":
        path.unlink()
    else:
        pd.read_csv(path).iloc[2:].to_csv(path, index=False)
    roots = [str(tmp_path / "seed-0"), str(tmp_path / "seed-1")]
    assert main(["seeds", *roots, "--output", str(tmp_path / "seeds.md")]) == 1
    assert "seed-1" in capsys.readouterr().err
    assert not (tmp_path / "seeds.md").exists()


def test_numbers_of_the_other_systems_stand_side_by_side(tmp_path, capsys):
    for name, r in (("seed-0", 0.5), ("seed-1", 0.7)):
        study = Study(tmp_path / name)
        path = study.item("obedience", "csv")
        path.parent.mkdir(parents=True)
        row = {"covariate": "age", "row": "LDM", "n": 24, "low": 0.1, "published_r": 0.692, "r": r}
        other = {"covariate": "sex", "row": "LDM", "n": 24, "agreement": 0.9}
        pd.DataFrame([row, other]).to_csv(path, index=False)
        study.provenance.write_text("{}")
    target = tmp_path / "seeds.md"
    roots = [str(tmp_path / "seed-0"), str(tmp_path / "seed-1")]
    assert main(["seeds", *roots, "--output", str(target)]) == 0
    lines = target.read_text().splitlines()
    assert lines[2] == "| obedience | age, LDM | r | 0.5 | 0.7 | 0.6 | 0.1414 |"
    assert lines[3] == "| obedience | sex, LDM | agreement | 0.9 | 0.9 | 0.9 | 0 |"
    assert len(lines) == 6

    Study(tmp_path / "seed-1").item("quality", "csv").write_text("row,fid\nLDM,3\n")
    assert main(["seeds", *roots, "--output", str(target)]) == 1
    assert "has other tables than" in capsys.readouterr().err
