"""`--sdm conda` with a stand-in for conda: every environment is found, made and used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from realdeal.closure import SOURCE, import_closure

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture
def snakemake_conda(tmp_path):
    """Run the tiny study with --sdm conda: snakemake_conda(*arguments, **environment)."""
    commands = tmp_path / "conda/bin"
    commands.mkdir(parents=True)
    stand_in = commands / "conda"
    stand_in.write_text(f"#!{sys.executable}\n" + (ROOT / "tests/conda/conda.py").read_text())
    stand_in.chmod(0o755)
    (commands / "activate").write_text((ROOT / "tests/conda/activate").read_text())

    def run(*arguments, **environment):
        command = [sys.executable, "-m", "snakemake", *arguments, "--sdm", "conda", "--cores", "1"]
        command += ["--configfile", "tests/tiny.yaml", "--directory", str(tmp_path)]
        path = f"{commands}:{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PATH": path} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )

    return run


def modules(env):
    """What the scripts of an environment import of this library, as dotted names."""
    found = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        text = path.read_text()
        environments = re.findall(r"envs/(\w+)\.yaml", text)
        scripts = re.findall(r"scripts/(\w+)\.py", text)
        for script, used in zip(scripts, environments, strict=True):
            if used == env:
                found.update(import_closure(ROOT / f"workflow/scripts/{script}.py"))
    names = (path.relative_to(SOURCE).with_suffix("").parts for path in found)
    return sorted(".".join(parts).removesuffix(".__init__") for parts in names)


def test_every_environment_has_what_its_scripts_import(snakemake_conda, tmp_path):
    for target in ("all", "refinement_study"):
        done = snakemake_conda(target, "--conda-create-envs-only")
        assert done.returncode == 0, done.stdout
    written = {path.read_text(): path.stem for path in (ROOT / "envs").glob("*.yaml")}
    made = {written.pop(p.read_text()): p for p in (tmp_path / ".snakemake/conda").glob("*.yaml")}
    assert not written
    for env, path in made.items():
        python = path.with_suffix("") / "bin/python"
        program = "import " + ", ".join(modules(env))
        done = subprocess.run(
            [python, "-c", program],
            env=os.environ | {"PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"envs/{env}.yaml: {done.stderr}"


def test_jobs_run_in_their_environment_and_borrow_nothing(snakemake_conda, tmp_path):
    done = snakemake_conda("make_cohort_1", STANDIN_WITHOUT="nilearn")
    assert done.returncode == 1  # although the environment of Snakemake has it
    assert "nilearn" in (tmp_path / "logs/tiny/make_cohort_1.log").read_text()
    shutil.rmtree(tmp_path / ".snakemake/conda")
    done = snakemake_conda("participants", "--show-failed-logs")
    assert done.returncode == 0, done.stdout[-8000:]
    assert (tmp_path / "results/tiny/participants.tsv").exists()
