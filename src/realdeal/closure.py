"""Which code runs, and which a script depends on. Standard library only, for the Snakefile.

Snakemake notices that a script has changed, not that a module it imports has. A hash over the
script's import closure, given as a parameter, makes it notice.
"""

import ast
import hashlib
import subprocess
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
PACKAGE = Path(__file__).resolve().parent.name


def import_closure(path):
    """All modules of this package that the Python file `path` imports, directly or not."""
    found, queue = set(), [Path(path)]
    while queue:
        for module in _imports(queue.pop()):
            if module not in found:
                found.add(module)
                queue.append(module)
    return sorted(found)


def code_version(path):
    """Twelve hexadecimal digits that change when a module of the import closure changes."""
    return _digest(import_closure(path))


def library_version():
    """Twelve hexadecimal digits that change when any module of this package changes."""
    return _digest(sorted((SOURCE / PACKAGE).rglob("*.py")))


@cache
def code_commit():
    """The git commit of this code, `-dirty` appended if files differ; `unknown` outside git."""
    git = ["git", "-C", str(SOURCE)]
    # a copy of this package may lie inside a repository of something else
    known = [*git, "ls-files", "--error-unmatch", f"{PACKAGE}/closure.py"]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        subprocess.run(known, capture_output=True, check=True)
        done = subprocess.run(describe, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _digest(modules):
    digest = hashlib.sha256()
    for module in modules:
        digest.update(module.relative_to(SOURCE).as_posix().encode())
        digest.update(module.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _imports(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            # `from package import name` may name a module or something inside one
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    files = [_file(name) for name in sorted(names) if name.split(".")[0] == PACKAGE]
    return tuple(file for file in files if file)


def _file(name):
    base = SOURCE.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
