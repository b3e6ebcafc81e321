"""The repository names no machine it was written on and no registry it was installed from."""

import re

from tests.shape.tree import ROOT, committed_files

MACHINE = re.compile(
    r"(?<![\w.~-])/(?:work|root|farm|home/[a-z]\w*|Users/[A-Za-z]\w*)/"
    r"|pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian|proxy\.golang\.org|sum\.golang\.org"
    r"|(?<!docs\.)crates\.io|repo1?\.maven"
)
# Written by others, and kept as they wrote it.
VENDORED = ("third_party/", "gen/ts/buf/", "gen/python/buf/")


def test_no_machine_paths_and_no_registries() -> None:
    found = []
    for path in committed_files():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(VENDORED):
            continue
        text = path.read_bytes().decode(errors="replace")
        found += [f"{name}: {match.group()}" for match in MACHINE.finditer(text)]
    assert not found


def test_the_search_finds_a_path() -> None:
    assert MACHINE.search("cd /" + "home/someone/project")
    assert not MACHINE.search("https://example.com/work/item")
