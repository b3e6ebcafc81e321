"""The code under gen/ is what the protos of today generate."""

import filecmp
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kit.require import missing
from tests.shape.tree import ROOT

GENERATED = {
    "python": ["python/chatd", "python/buf"],
    "ts": ["ts/chatd", "ts/buf", "ts/google"],
    "go": ["go/chatd"],
}
# language -> the program that it needs, and its name in CHATD_REQUIRE
TOOLCHAINS = {"ts": ("npm", "node"), "go": ("go", "go")}


# The first run installs the generators.
@pytest.mark.timeout(240)
@pytest.mark.parametrize("language", GENERATED)
def test_generated_code_is_fresh(language: str, tmp_path: Path) -> None:
    if language in TOOLCHAINS:
        program, name = TOOLCHAINS[language]
        if shutil.which(program) is None:
            missing(name, f"there is no {program} on PATH to generate {language} code with")
    command = [str(ROOT / "scripts/gen"), "--out", str(tmp_path), language]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    stale = [
        d for folder in GENERATED[language] for d in _differences(ROOT / "gen", tmp_path, folder)
    ]
    assert not stale, "run `make gen`"


def _differences(committed: Path, fresh: Path, folder: str) -> list[str]:
    names = _names(committed, folder) | _names(fresh, folder)
    _, mismatch, errors = filecmp.cmpfiles(committed, fresh, names, shallow=False)
    return sorted(mismatch + errors)


def _names(root: Path, folder: str) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
