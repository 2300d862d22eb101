"""`jobkit audit`: the audit trail."""

from __future__ import annotations

import click

import jobkit
from jobkit.cli import as_json_option, limit_option, out


@click.command()
@click.option("--who", metavar="NAME", help="Only actions of this user.")
@click.option("--action", metavar="NAME", help="Only this action: cancel, retry, delete, ...")
@limit_option(50, 10_000, "entries")
@as_json_option
def audit(who: str | None, action: str | None, limit: int, as_json: bool) -> None:
    """List the actions of users on pages, over HTTP and in the command line, newest first."""
    found = jobkit.connect().audit(limit if who is None and action is None else 20_000)
    entries = [entry for entry in found if who in (None, entry.who) and action in (None, entry.action)][:limit]
    out.listing(as_json, entries, found.COLUMNS, empty=found.EMPTY)
