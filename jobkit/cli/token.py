"""`jobkit token`: make an API token, or refuse one that was made."""

from __future__ import annotations

import click

from jobkit.cli import out
from jobkit.cli.group import BadInput


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@click.command()
@click.option("--scope", default="", metavar="SCOPES", help="view, submit, operate; comma-separated. [view]")
@click.option("--tasks", default="", metavar="PATTERNS", help="Only for these tasks: 'train_*,report'. [all]")
@click.option("--expires", default="30d", show_default=True, metavar="TIME", help="90, 15m, 12h, 30d, 4w.")
@click.option("--name", default="", metavar="NAME", help="Who will use it; shown as the owner of the jobs.")
@click.option("--own", "only_own", is_flag=True, help="Only for the jobs of --name: sees and acts on no others.")
@click.option("--subscribe", multiple=True, metavar="TOPIC", help="Mercure topics that it may see; may be repeated.")
@click.option("--publish", multiple=True, metavar="TOPIC", help="Mercure topics that it may write to; may be repeated.")
@click.option("--revoke", metavar="TOKEN", help="Refuse this token from now on.")
@click.option("--mercure-key", is_flag=True, help="Print the key for an app that makes Mercure tokens itself.")
@click.option("--json", "as_json", is_flag=True, help="With its id and its end.")
def token(
    scope: str,
    tasks: str,
    expires: str,
    name: str,
    only_own: bool,
    subscribe: tuple[str, ...],
    publish: tuple[str, ...],
    revoke: str | None,
    mercure_key: bool,
    as_json: bool,
) -> None:
    """Make an API token; prints it alone. It cannot be shown again, only revoked."""
    import time

    from jobkit.client.loop import background
    from jobkit.http.auth.tokens import InvalidToken, Tokens, seconds_of

    kit = out.connect()
    tokens = Tokens(kit.settings.secret, kit.settings.namespace)
    if mercure_key:
        from jobkit.http.mercure.grants import hub_keys

        if not tokens.has_key:
            raise BadInput("the key is derived from JOBKIT_SECRET, and none is set: set it here and for the server")
        out.echo(hub_keys(kit.settings.secret, kit.settings.namespace)[0])
        return
    if revoke is not None:
        try:
            grant = tokens.read(revoke.strip())
        except InvalidToken as error:
            raise BadInput(f"{error}; it opens nothing here") from None
        background.call(kit.verbs.store.revoke(grant.token_id, grant.expires_at))
        out.echo(f"revoked {grant.token_id}", err=True)
        return
    scopes = _parts(scope) or ([] if subscribe or publish else ["view"])
    made, grant = tokens.make(
        scopes,
        lifetime_s=seconds_of(expires),
        tasks=_parts(tasks),
        subject=name,
        subscribe=subscribe,
        publish=publish,
        only_own=only_own,
    )
    if as_json:
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(grant.expires_at))
        out.echo_json({"token": made, "id": grant.token_id, "scopes": scopes, "expires_at": ends})
    else:
        out.echo(made)
