"""pyproject.toml, requirements/*.in and the lock files name the same things."""

import re
import tomllib

from tests.shape.tree import ROOT

REQUIREMENTS = ROOT / "requirements"
# In run.in because the project itself is built with it, offline.
BUILD_BACKEND = {"hatchling"}


def test_run_requirements_are_the_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {_name(line) for line in project["dependencies"]}
    declared |= {_name(line) for line in project["optional-dependencies"]["fast"]}
    assert {_name(line) for line in _lines("run.in")} - BUILD_BACKEND == declared


def test_dev_is_run_and_more_at_the_same_versions() -> None:
    run, dev = _pins("run.txt"), _pins("dev.txt")
    assert {name: dev.get(name) for name in run} == run


def test_every_pin_has_hashes_and_no_lock_names_an_index() -> None:
    for name in ("run.txt", "dev.txt", "gen.txt"):
        text = (REQUIREMENTS / name).read_text()
        assert text.count(" \\\n    --hash=sha256:") >= len(_pins(name)) > 0
        assert not re.search(r"^--|://", text, re.MULTILINE)


def _lines(name: str) -> list[str]:
    text = (REQUIREMENTS / name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith(("#", "-"))]


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=; ]", requirement, maxsplit=1)[0].lower()


def _pins(name: str) -> dict[str, str]:
    text = (REQUIREMENTS / name).read_text()
    return dict(re.findall(r"^([a-z][\w.-]*)==(\S+)", text, re.MULTILINE))
