"""Run the tests that belong to the changes since a commit (main): `python -m tests.touched [COMMIT]`.

The pre-push hook runs it. The tests of a module are in the folder or file of the same name. Imports are not followed:
users of a changed module are tested by a run of all tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.support import ROOT

#: Tests of rooms without a test folder or file of the same name.
ELSEWHERE = {
    "__init__": ["tests/test_layers.py"],
    "above": ["tests/client/test_names.py", "tests/tasks"],
    "attempts": ["tests/client/test_first_job.py", "tests/worker/test_endings.py"],
    "connecting": ["tests/client/test_first_job.py", "tests/test_settings.py"],
    "feature": ["tests/features"],
    "demo": ["tests/tasks/test_demo.py"],
    "joblib": ["tests/features/executors/test_joblib.py"],
    "joined": ["tests/features/sharing"],
    "keys": ["tests/features/sharing/test_revoked_keys.py"],
    "login_links": ["tests/features/sharing/test_dashboard.py"],
    "parts": ["tests/client/test_parts.py", "tests/worker/test_parts.py"],
    "pytest_plugin": ["tests/testing"],
}


def paths_for(changed: Iterable[str]) -> list[str]:
    """Return the paths of the tests that belong to changed files; an empty list if none does."""
    found = set()
    for path in changed:
        first, _, rest = path.partition("/")
        room = rest.partition("/")[0].removesuffix(".py")
        if first == "jobkit":
            of_feature = f"tests/{os.path.dirname(rest)}"
            usual = [of_feature] if room == "features" else [f"tests/{room}", f"tests/test_{room}.py"]
            names = ELSEWHERE.get(room, usual)
            found |= {"tests/test_layers.py", *names}
        elif path.startswith("tests/") and os.path.basename(path).startswith("test_"):
            found.add(path)
        elif path.startswith("tests/") and "/" in rest:
            found.add(os.path.dirname(path))
        elif first in ("docs", "notebooks") or path.endswith(".md"):
            pages = {"tests/docs", "tests/http/test_scripts.py", "tests/test_docs.py"}
            found |= {"tests/notebooks"} if first == "notebooks" else pages
        elif first == "benchmarks":
            found.add("tests/test_benchmarks.py")
        elif path in ("pyproject.toml", "tests/conftest.py", "tests/support.py"):
            found |= {"tests/test_layers.py", "tests/test_packaging.py", "tests/test_leaks.py", "tests/store"}
    kept = sorted(path for path in found if (ROOT / path).exists())
    return [path for path in kept if not any(path.startswith(f"{other}/") for other in kept)]


def changed_since(commit: str) -> list[str]:
    """Return the files that differ from the merge base with `commit`, uncommitted changes included."""
    command = ["git", "diff", "--name-only", "--merge-base", commit, "--"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def main() -> int:
    commit = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PRE_COMMIT_FROM_REF") or "main"
    tests = paths_for(changed_since(commit))
    print("tests of what has changed:", " ".join(tests) or "none")
    return int(pytest.main(["-q", *tests])) if tests else 0


if __name__ == "__main__":
    sys.exit(main())
