"""`jobkit batches`."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.cli.conftest import Terminal


def test_a_batch_is_listed_shown_cancelled_and_deleted(terminal: Terminal) -> None:
    code = "kit.options(delay=3600).map(len, ['a', 'b'], name='first try').id"
    program = [sys.executable, "-c", f"import jobkit; kit = jobkit.connect(); print({code})"]
    done = subprocess.run(program, env=terminal.env(), cwd=terminal.folder, capture_output=True, text=True, check=True)
    batch_id = done.stdout.strip()

    assert batch_id[:8] in terminal.ok("batches")
    shown = json.loads(terminal.ok("batches", "show", batch_id[:8], "--json"))
    assert (shown["id"], shown["counts"]) == (batch_id, {"scheduled": 2})
    assert "2 scheduled" in terminal.ok("batches", "show", "first try")
    refused = terminal.run("batches", "delete", batch_id)
    assert (refused.returncode, "2 jobs of batch" in refused.stderr) == (1, True)
    assert "2 jobs asked to stop" in terminal.ok("batches", "cancel", batch_id)
    assert "have ended" in terminal.run("batches", "cancel", batch_id).stderr
    assert terminal.ok("batches", "retry", batch_id) == ""
    assert "2 jobs deleted" in terminal.ok("batches", "delete", batch_id)
    missing = terminal.run("batches", "show", batch_id)
    assert (missing.returncode, "no batch" in missing.stderr) == (2, True)
