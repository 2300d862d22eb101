"""`jobkit limit`: how many jobs of a queue or task may run, changed while the system runs."""

from __future__ import annotations

import click

from jobkit.cli import out
from jobkit.cli.group import BadInput


@click.command()
@click.argument("kind", type=click.Choice(["queue", "task"]), required=False)
@click.argument("name", required=False)
@click.option("--concurrency", "-c", type=int, metavar="N", help="So many at a time.")
@click.option("--rate", "-r", metavar="N/TIME", help="So many starts in a time: 10/m, 5/10s, 1000/h.")
@click.option("--off", is_flag=True, help="End the limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def limit(
    kind: str | None, name: str | None, concurrency: int | None, rate: str | None, off: bool, as_json: bool
) -> None:
    """Limit a queue or task from now on, across all workers; without arguments, list what is limited.

    \b
    jobkit limit queue gpu --concurrency 2
    jobkit limit task call_api --rate 10/m
    jobkit limit queue gpu --off
    """
    kit = out.connect()
    if kind is None:
        if concurrency is not None or rate is not None or off:
            raise BadInput("say whose limit: jobkit limit queue NAME, or jobkit limit task NAME")
        found = kit.limits()
        if as_json:
            out.echo_json([rule.to_json() for rule in found])
        elif not found:
            out.echo("Nothing is limited. `jobkit limit queue NAME --concurrency 2` does it.", err=True)
        else:
            rows = [(rule.gate.replace(":", " ", 1), str(rule.n or ""), rule.rate, str(rule.held)) for rule in found]
            out.table(("LIMIT OF", "CONCURRENCY", "RATE", "RUNNING"), rows)
        return
    if name is None:
        raise BadInput(f"name the {kind}: jobkit limit {kind} NAME")
    whose = {kind: name}
    if off:
        if concurrency is not None or rate is not None:
            raise BadInput("--off ends the limit; it goes without --concurrency and --rate")
        kit.unlimit(**whose)
        return
    rule = kit.limit(**whose, concurrency=concurrency, rate=rate)
    if as_json:
        out.echo_json(rule.to_json())
    elif rule.n and rule.held > rule.n:
        out.echo(f"{rule.held} of them run now; nothing more starts until they are fewer than {rule.n}", err=True)
