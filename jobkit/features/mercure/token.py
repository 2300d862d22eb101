"""Options of `jobkit token` about the hub."""

from __future__ import annotations

from typing import Any

import click

import jobkit
from jobkit.cli import BadInput, options, out


def _print_key(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from jobkit.features.mercure.grants import hub_keys

        keys = hub_keys(jobkit.connect().settings)
        if not keys:
            raise BadInput("JOBKIT_SECRET is not set; set it here and for the server, since the key is derived from it")
        out.echo(keys[0])
        ctx.exit()


OPTIONS = options(
    click.option("--subscribe", multiple=True, metavar="TOPIC", help="Mercure topic to subscribe to; may be repeated."),
    click.option("--publish", multiple=True, metavar="TOPIC", help="Mercure topic to publish to; may be repeated."),
    click.option(
        "--mercure-key",
        is_flag=True,
        expose_value=False,
        callback=_print_key,
        help="Print the key for an app that signs Mercure tokens itself.",
    ),
)


def claims(given: dict[str, Any]) -> dict[str, Any]:
    """Take what was given for these options, and return the claims of the token."""
    topics = {action: list(given.pop(action)) for action in ("publish", "subscribe")}
    return {"mercure": topics} if any(topics.values()) else {}
