"""`jobkit batch`: found by id, prefix or name; shown, cancelled, retried, deleted."""

from __future__ import annotations

import json

import jobkit
from tests.cli.conftest import Terminal


def test_a_batch_is_listed_shown_cancelled_and_deleted(terminal: Terminal) -> None:
    with jobkit.connect(home=terminal.home) as kit:
        waiting = kit.options(delay=3600).map(len, ["a", "b"], name="first try")

    assert waiting.id[:8] in terminal.ok("batch", "list")
    shown = json.loads(terminal.ok("batch", "show", waiting.id[:8], "--json"))
    assert (shown["id"], shown["counts"]) == (waiting.id, {"scheduled": 2})
    assert "2 scheduled" in terminal.ok("batch", "show", "first try")
    refused = terminal.run("batch", "rm", waiting.id)
    assert (refused.returncode, "2 jobs of batch" in refused.stderr) == (1, True)
    assert "2 jobs asked to stop" in terminal.ok("batch", "cancel", waiting.id)
    assert "have ended" in terminal.run("batch", "cancel", waiting.id).stderr
    assert terminal.ok("batch", "retry", waiting.id) == ""
    assert "2 jobs deleted" in terminal.ok("batch", "rm", waiting.id)
    missing = terminal.run("batch", "show", waiting.id)
    assert (missing.returncode, "no batch" in missing.stderr) == (2, True)
