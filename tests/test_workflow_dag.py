"""The workflow without running it: targets, sources, profiles, rules, environments, config."""

import ast
import re
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from realdeal import closure
from realdeal.config import check, check_table
from realdeal.data.splits import choose, split
from realdeal.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
PARTICIPANTS = ROOT / "workflow/schemas/participants.schema.yaml"

TARGETS = [
    *("all", "tables", "figures", "report", "banner", "realism", "participants", "quality"),
    *(f"table{number}" for number in range(1, 7)),
    *(f"figure{number}" for number in range(3, 11)),
    *("train_autoencoder", "train_ldm", "train_refiner"),
]
VARIANTS = ("reconstructed", "reconstructed-refined", "synthetic", "synthetic-refined")


def grammar(study, subjects, synthetic="synthetic-001"):
    """One file of every kind that a study has."""
    train, test = split(subjects, 0.8, 0)
    tested = choose(test, 20, 0)[0]
    root = f"results/{study}"
    return [
        f"{root}/participants.tsv",
        f"{root}/report.html",
        f"{root}/volumes/original/{train[0]}.nii.gz",
        *(
            f"{root}/volumes/{v}/{synthetic if v.startswith('syn') else tested}.nii.gz"
            for v in VARIANTS
        ),
        f"{root}/regions/{train[0]}.nii.gz",
        *(f"{root}/stores/{kind}/{train[0]}.npy" for kind in ("original", "coarse", "latents")),
        *(
            f"{root}/models/{name}.{suffix}"
            for name in ("autoencoder", "ldm", "refiner")
            for suffix in ("safetensors", "json")
        ),
        *(f"{root}/training/{name}.csv" for name in ("autoencoder", "ldm", "refiner")),
        *(f"{root}/patches/{name}.npz" for name in (tested, synthetic)),
        *(
            f"{root}/features/{name}.npz"
            for name in ("original", "original-others", "synthetic", "synthetic-refined")
        ),
        *(
            f"{root}/noise/{name}.npz"
            for name in ("original", "reconstructed", "reconstructed-refined")
        ),
        *(
            f"{root}/scores/{name}.csv"
            for name in ("lpips", "hog", "noise", "sharpness", "seam", "distribution")
        ),
        *(
            f"{root}/tables/table{n}.{suffix}"
            for n in range(1, 7)
            for suffix in ("csv", "md", "tex")
        ),
        *(f"{root}/figures/figure{n}.png" for n in range(3, 11)),
    ]


def write_config(path, **sections):
    path.write_text(yaml.safe_dump(sections))
    return path


# Targets, sources, profiles


def test_every_named_target_and_file_of_the_demo(snakemake):
    subjects = [f"sub-{number:03d}" for number in range(1, CONFIG["data"]["demo"]["subjects"] + 1)]
    evaluated = choose(split(subjects, 0.8, 0)[1], 20, 0)
    files = grammar("demo", subjects) + [
        *(f"results/demo/cohort/sub-001_{k}.nii.gz" for k in ("T1w", "labels", "truth", "rescan")),
        f"results/demo/volumes/rescan/{evaluated[0]}.nii.gz",
        "results/demo/noise/rescan.npz",
        "resources/weights/alexnet.safetensors",
    ]
    done = snakemake(*TARGETS, *files, "--dry-run", "--cores", 2)
    assert done.returncode == 0, done.stdout
    for target in TARGETS:
        assert re.search(rf"^{target} +1$", done.stdout, re.M), f"{target} is not run"
    jobs = int(re.search(r"^total +(\d+)$", done.stdout, re.M)[1])
    assert jobs < 60  # starting Python and torch costs seconds each time


def test_cells_of_the_demo_cohort(snakemake, tmp_path):
    cohort = ("--configfile", ROOT / "presets/demo-cohort.yaml")
    done = snakemake("cohort", "participants", "-n", "--cores", 2, *cohort)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^cohort +1$", done.stdout, re.M)
    for kind in ("T1ce", "FLAIR", "lesions"):
        assert re.search(rf"cohort/sub-\d+_{kind}.nii.gz", done.stdout), kind
    few = write_config(tmp_path / "few.yaml", data={"demo": {"subjects": 19}})
    done = snakemake("cohort", "-n", "--cores", 2, *cohort, few)
    assert done.returncode == 1 and "data.demo.subjects: 19" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_single_table_asks_only_for_what_it_shows(snakemake):
    done = snakemake("table2", "--dry-run", "--cores", 2)
    assert done.returncode == 0, done.stdout
    assert "train_refiner" in done.stdout
    assert "train_ldm" not in done.stdout and "fetch_weights" not in done.stdout


@pytest.mark.parametrize("labels", [True, False])
def test_source_folder(snakemake, tmp_path, labels):
    subjects = ["anna", "bo", "cem", "di", "eva"]
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for subject in subjects:
            (tmp_path / kind / f"{subject}.nii.gz").touch()
    folder = {"images": str(tmp_path / "images")}
    if labels:
        folder["labels"] = str(tmp_path / "labels")
    config = write_config(
        tmp_path / "own.yaml", study="own", data={"source": "folder", "folder": folder}
    )
    done = snakemake(*grammar("own", subjects), "-n", "--cores", 2, "--configfile", config)
    assert done.returncode == 0, done.stdout
    assert "make_cohort" not in done.stdout and "rescan" not in done.stdout


def test_source_hcp(snakemake, tmp_path):
    subjects = ["100206", "100307", "100408", "100610", "101006"]
    (tmp_path / "subjects.txt").write_text("# chosen\n" + "\n".join(subjects) + "\n")
    hcp = {"subjects": str(tmp_path / "subjects.txt"), "terms_accepted": True}
    (tmp_path / "results/hcp").mkdir(parents=True)  # where it stands, nobody asks the bucket
    inventory = "".join(f"{subject}\t35000000\t\n" for subject in subjects)
    (tmp_path / "results/hcp/hcp_inventory.tsv").write_text("subject\tbytes\tlacks\n" + inventory)
    config = write_config(tmp_path / "hcp.yaml", study="hcp", data={"source": "hcp", "hcp": hcp})
    options = ("-n", "--cores", 2, "--resources", "downloads=4", "--configfile", config)
    done = snakemake(*grammar("hcp", subjects), *options, directory=tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^fetch_hcp +5$", done.stdout, re.M)


def test_a_missing_source_is_one_line(snakemake, tmp_path):
    folder = {"images": str(tmp_path / "nowhere")}
    config = write_config(tmp_path / "x.yaml", data={"source": "folder", "folder": folder})
    done = snakemake("-n", "--cores", 2, "--configfile", config)
    assert done.returncode == 1
    assert "data.folder.images" in done.stdout and "Traceback" not in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--profile", "slurm", "--dry-run"],
        ["--cores", "all", "--resources", "gpu=4", "--dry-run"],
        ["--lint"],
    ],
    ids=["slurm", "gpus", "lint"],
)
def test_ways_to_run(snakemake, options):
    done = snakemake(*options)
    assert done.returncode == 0, done.stdout
    if options == ["--lint"]:
        assert "good condition" in done.stdout


# Rules and environments


def rules():
    """(name, text) of every rule that runs a job."""
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        blocks = re.split(r"^ *rule\b *", path.read_text(), flags=re.M)[1:]
        for number, block in enumerate(blocks):
            yield pytest.param(block, id=f"{path.stem}-{block.split(':')[0] or number}")


@pytest.mark.parametrize("text", list(rules()))
def test_every_rule_is_complete(text):
    assert re.match(r'[a-z_0-9]*:\n +"""', text), "no docstring"
    for directive in ("output", "log", "benchmark", "threads", "resources", "conda", "script"):
        assert re.search(rf"^ +{directive}:", text, re.M), f"no {directive}"
    (block,) = re.findall(r"^( +)resources:\n((?:\1 +.*\n)+)", text, re.M)
    named = dict(re.findall(r"(\w+)=(\S+),", block[1]))
    assert {"mem_mb", "runtime"} <= set(named) <= {"gpu", "downloads", "mem_mb", "runtime"}
    assert int(re.search(r"\d+", named["mem_mb"])[0]) >= 1000  # Snakemake takes 300 under Slurm
    # What a cluster has killed for its memory asks for more when it is tried again.
    assert named["mem_mb"].startswith("growing(") or "localrule: True" in text


def test_no_training_depends_on_code():
    text = (ROOT / "workflow/rules/train.smk").read_text()
    assert text.count('"../scripts/train_') == 3 and "code=" not in text


IMPORT_NAMES = {
    "antspyx": "ants",
    "lightning-fabric": "lightning_fabric",
    "pillow": "PIL",
    "pytorch": "torch",
    "pytorch-fid": "pytorch_fid",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
NOT_IMPORTED = {"python", "pip", "einops", "tensorboard"}  # by us; MONAI and torch do


def environment(name):
    """{package: version} of an environment file."""
    content = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())
    assert content["channels"] == ["conda-forge", "nodefaults"]
    entries = []
    for entry in content["dependencies"]:
        entries += entry["pip"] if isinstance(entry, dict) else [entry]
    return dict(re.fullmatch(r"(\S+)(?: =+(\S+))?", entry).groups() for entry in entries)


def scripts():
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        text = path.read_text()
        environments = re.findall(r"envs/(\w+)\.yaml", text)
        yield from zip(re.findall(r"scripts/(\w+)\.py", text), environments, strict=True)


def third_party(path):
    """Top-level names of other packages that the import closure of a script imports."""
    names = set()
    for file in [path, *closure.import_closure(path)]:
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", None))
                if called in ("import_module", "find_spec"):
                    names |= {
                        a.value.split(".")[0] for a in node.args if isinstance(a, ast.Constant)
                    }
    return names - set(sys.stdlib_module_names) - {"realdeal", "snakemake", "botocore"}


@pytest.mark.parametrize(("script", "env"), sorted(set(scripts())))
def test_environments_have_what_the_scripts_import(script, env):
    # Snakemake's own packages reach every script, so a run does not show what is missing.
    listed = {IMPORT_NAMES.get(name, name) for name in environment(env)}
    missing = third_party(ROOT / f"workflow/scripts/{script}.py") - listed
    assert not missing, f"envs/{env}.yaml lacks {sorted(missing)}"


@pytest.mark.parametrize("env", ["data", "torch", "report"])
def test_environments_have_nothing_else(env):
    used = [third_party(ROOT / f"workflow/scripts/{s}.py") for s, e in set(scripts()) if e == env]
    listed = {IMPORT_NAMES.get(name, name) for name in set(environment(env)) - NOT_IMPORTED}
    assert listed <= set().union(*used)


@pytest.mark.parametrize("env", ["data", "torch", "report"])
def test_environments_agree_with_the_lock_file(env):
    lock = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.M))
    lock = {name.lower(): version for name, version in lock.items()} | {"pytorch": lock["torch"]}
    for package, version in environment(env).items():
        if package not in ("python", "pip"):
            assert (lock[package] + ".").startswith(version + "."), package


def test_code_version_follows_the_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(closure, "SOURCE", tmp_path)
    closure._imports.cache_clear()
    package = tmp_path / "realdeal"
    package.mkdir()
    (package / "used.py").write_text("import realdeal.deeper\n")
    (package / "deeper.py").write_text("x = 1\n")
    (package / "other.py").write_text("x = 1\n")
    script = tmp_path / "script.py"
    script.write_text("with open('x'):\n    from realdeal import used\n")
    assert [path.stem for path in closure.import_closure(script)] == ["deeper", "used"]
    before = closure.code_version(script)
    (package / "other.py").write_text("x = 2\n")
    assert closure.code_version(script) == before
    (package / "deeper.py").write_text("x = 2\n")
    assert closure.code_version(script) != before
    closure._imports.cache_clear()


# Configuration


def changed(key, value):
    """config.yaml with one dotted key set."""
    content = yaml.safe_load((ROOT / "config.yaml").read_text())
    *path, last = key.split(".")
    section = content
    for name in path:
        section = section[name]
    section[last] = value
    return content


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sed", 1, "unknown key 'sed'; did you mean 'seed'?"),
        ("refiner.training.learning_rates", 1, "unknown key 'refiner.training.learning_rates'"),
        ("ldm.training.learning_rate", "1e-3", "write 0.001 in a config file"),
        ("sampling.refiner.steps", "8", "write 8 in a config file"),
        ("sampling.refiner.steps", 8.5, "'sampling.refiner.steps' is 8.5, must be of type integer"),
        ("data.source", "bidz", "'data.source': 'bidz' is not one of"),
        ("data.demo.modalities", ["T1w", "CT"], "'data.demo.modalities.1': 'CT' is not one of"),
        ("data.demo.pathologies", [], "'data.demo.pathologies'"),
        ("data.demo.ageing", "strong", "'data.demo.ageing': 'strong' is not one of"),
        ("study", "../elsewhere", "'study'"),
        ("evaluation.distribution.neighbours", [5, 10], "'evaluation.distribution.neighbours'"),
        ("preprocessing.shape", [64, 64], "'preprocessing.shape'"),
        ("ldm.network.guess", {"windows": [], "spread": 0.1}, "'ldm.network.guess"),
    ],
)
def test_mistakes_in_the_configuration(key, value, message):
    with pytest.raises(InputError) as caught:
        check(changed(key, value), SCHEMA, "configuration")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_key_is_named():
    content = changed("seed", 0)
    del content["sampling"]["refiner"]["steps"]
    with pytest.raises(InputError, match="the key 'sampling.refiner.steps' is missing"):
        check(content, SCHEMA, "configuration")


@pytest.mark.parametrize("setting", ["sed: 1", "ldm: {training: {learning_rate: 1e-3}}"])
def test_the_workflow_refuses_mistakes_in_one_line(snakemake, tmp_path, setting):
    (tmp_path / "wrong.yaml").write_text(setting)
    done = snakemake("-n", "--cores", 2, "--configfile", tmp_path / "wrong.yaml")
    assert done.returncode == 1
    assert len(re.findall(r"^configuration: .*$", done.stdout, re.M)) == 1, done.stdout
    assert "Traceback" not in done.stdout and "Building DAG" not in done.stdout


def resolve(schema):
    if "$ref" in schema:
        return resolve(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]) | schema
    return schema


def test_schema_describes_exactly_the_configuration():
    def compare(schema, content, name):
        schema = resolve(schema)
        assert schema.get("description"), f"{name} has no description"
        if isinstance(content, dict) and "properties" in schema:
            assert schema["additionalProperties"] is False, name
            assert set(schema["properties"]) == set(content), name
            assert set(schema["required"]) <= set(content), name
            for key, value in content.items():
                compare(schema["properties"][key], value, f"{name}.{key}")

    compare(SCHEMA, CONFIG, "config")


@pytest.mark.parametrize("path", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda p: p.stem)
def test_presets_fit_the_schema(path):
    config = deepcopy(CONFIG)
    update_config(config, yaml.safe_load(path.read_text()))
    check(config, SCHEMA, path.name)


def test_participants_are_checked(tmp_path):
    table = tmp_path / "participants.tsv"
    head = "participant_id\tsplit\tage\tsex\tbrain_volume\n"
    table.write_text(head + "100206\ttrain\t28\tF\tn/a\nNA\ttest\tn/a\tn/a\t1200000\n")
    check_table(table, PARTICIPANTS)
    table.write_text(head + "100206\ttrain\t28\tF\tn/a\n100307\tvalidation\t3\tM\t1\n")
    with pytest.raises(InputError, match="participants.tsv, line 3: 'split'"):
        check_table(table, PARTICIPANTS)
