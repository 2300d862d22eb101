"""`jobkit show --made-by`: what made a job."""

from __future__ import annotations

from jobkit.cli import out
from jobkit.client.kit import Kit

NAME = "made_by"
HELP = "Show what made it: git, packages, machine, seed."


def show(kit: Kit, job_id: str, as_json: bool) -> None:
    """Print what made a job: with --json all of it, else a summary and the diff."""
    made = kit.made_by(job_id)
    if as_json:
        out.echo_json(made.to_json())
        return
    out.facts({label.lower(): text for label, text in made.lines()} or {"made by": "nothing is known"})
    out.section("diff", made.diff.splitlines())
