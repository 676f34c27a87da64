"""What made a table or figure is told by itself, and told alike by the same study."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from test_paper import SETTINGS, write_all_scores

from realdeal.closure import code_commit, library_version
from realdeal.errors import InputError
from realdeal.files import write_json
from realdeal.paper import figures
from realdeal.paper.published import Published
from realdeal.paper.tables import COLUMNS, make_table, read_table
from realdeal.provenance import stamp, stamp_line, write_digests, write_provenance
from realdeal.study import Study

ROOT = Path(__file__).resolve().parent.parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def scans(folder, names):
    """Files of subjects, as rules hand them over; the last has no labels."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.nii.gz").write_bytes(f"scan of {name}".encode())
    files = {name: {"image": str(folder / f"{name}.nii.gz"), "labels": None} for name in names}
    return files | {names[0]: {kind: files[names[0]]["image"] for kind in ("image", "labels")}}


def make(root, files, size):
    """A study's provenance, its subjects digested in jobs of `size`."""
    study, names = Study(root), list(files)
    numbers = range(0, len(names), size)
    for number in numbers:
        chunk = names[number : number + size]
        write_digests(study.digests(number), {name: files[name] for name in chunk})
    write_provenance(study.provenance, CONFIG, [study.digests(number) for number in numbers])
    write_json(study.model("refiner").with_suffix(".json"), {"commit": "abc-dirty"})
    study.model("refiner").write_bytes(b"weights")
    return study


def test_the_same_study_has_the_same_bytes_wherever_it_lies(tmp_path):
    names = ["anna", "bo", "cem"]
    one = make(tmp_path / "one", scans(tmp_path / "a", names), 3)
    two = make(tmp_path / "two", scans(tmp_path / "b", names), 2)
    content = one.provenance.read_bytes()
    assert content == two.provenance.read_bytes()
    made = json.loads(content)
    assert made["config"] == CONFIG and made["seed"] == CONFIG["seed"]
    assert made["data"]["subjects"] == 3
    assert made["realdeal"]["commit"] == code_commit()
    assert made["realdeal"]["code"] == library_version()
    assert {"python", "torch", "numpy", "antspyx"} <= set(made["versions"])
    files = scans(tmp_path / "c", names)
    Path(files["cem"]["image"]).write_bytes(b"another scan")
    other = json.loads(make(tmp_path / "three", files, 3).provenance.read_text())
    assert other.pop("data")["sha256"] != made.pop("data")["sha256"] and other == made


def test_tables_and_figures_carry_it(tmp_path):
    study = make(tmp_path / "study", scans(tmp_path / "a", ["anna"]), 1)
    write_all_scores(study)
    said = stamp(study, ["refiner"])
    digest = hashlib.sha256(study.provenance.read_bytes()).hexdigest()[:16]
    assert said["Provenance"] == f"provenance.json {digest}"
    assert said["Networks"] == f"refiner {hashlib.sha256(b'weights').hexdigest()[:16]} " + (
        "(commit abc-dirty)"
    )
    published = Published(ROOT / "resources/published.csv")
    make_table(2, study, published, SETTINGS, 0, stamp=said)
    csv = study.table(2).read_bytes()
    expected = f"{stamp_line(said)}; table2.csv: {hashlib.sha256(csv).hexdigest()[:16]}"
    assert study.table(2, "md").read_text().splitlines()[-1] == expected
    assert f"\n% {expected}\n" in study.table(2, "tex").read_text()
    assert list(read_table(study.table(2))) == COLUMNS
    figures._save(figures.Canvas(figsize=(1, 1)), tmp_path / "figure.png", said)
    assert Image.open(tmp_path / "figure.png").text == said


def test_the_commit_is_that_of_this_code_and_of_no_other(tmp_path):
    package = tmp_path / "realdeal"
    package.mkdir()
    # a package, not a namespace: it must come before one installed
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "src/realdeal/closure.py", package)

    def commit():
        script = "from realdeal.closure import code_commit; print(code_commit())"
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def git(*arguments):
        who = ("-c", "user.name=anna", "-c", "user.email=anna@localhost")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, check=True)

    assert commit() == "unknown"  # unpacked from an archive
    git("init")
    git("commit", "--allow-empty", "-m", "another project")
    assert commit() == "unknown"
    git("add", "realdeal/closure.py")
    git("commit", "-m", "this one")
    assert re.fullmatch("[0-9a-f]{40}", commit())
    with open(package / "closure.py", "a") as file:
        file.write("# edited\n")
    assert re.fullmatch("[0-9a-f]{40}-dirty", commit())


def test_what_is_missing_is_named(tmp_path):
    study = Study(tmp_path)
    with pytest.raises(InputError, match="provenance.json.*make it again"):
        stamp(study, [])
    with pytest.raises(InputError, match="gone.nii.gz: cannot be read"):
        write_digests(study.digests(1), {"anna": {"image": str(tmp_path / "gone.nii.gz")}})
    assert not study.digests(1).exists()
