"""Expected text in files that a person reads and reviews in a diff.

`CHATD_GOLDEN=write` writes the actual text instead of comparing it.
"""

import os
from pathlib import Path


def assert_golden(text: str, path: Path) -> None:
    """Compare with the file, or write it."""
    if os.environ.get("CHATD_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing: run the test with CHATD_GOLDEN=write"
    assert text == path.read_text(encoding="utf-8")
