"""The files of this repository, for the tests of its shape."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = {".go", ".js", ".mjs", ".py", ".ts", ".tsx", ""}
NOT_OURS = {"node_modules", "__pycache__", "dist"}


def sources(*folders: str) -> Iterator[Path]:
    """Walk the hand-written code under these folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in CODE and not NOT_OURS & set(path.parts):
                yield path


def committed_files() -> list[Path]:
    """List what git has, and what it would have with the next `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]
