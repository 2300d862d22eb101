"""`jobkit archive`: ended jobs from the archive."""

from __future__ import annotations

import click
from msgspec.structs import replace

import jobkit
from jobkit.cli import as_json_option, out, search_options
from jobkit.cli.jobs import state_of
from jobkit.client.tables import JOB_COLUMNS
from jobkit.store.grammar import of_command_line, parse
from jobkit.store.query import Query


@click.command()
@search_options
@click.option("--open", "reopens", is_flag=True, help="Bring these jobs back, so that `jobkit show` and `retry` work.")
@as_json_option
def archive(words: tuple[str, ...], order: str, limit: int, reopens: bool, as_json: bool) -> None:
    """List ended jobs from the archive (JOBKIT_ARCHIVE), newest first, however old they are.

    SEARCH is as in the dashboard: jobkit archive task:train "age:<1y" lr=0.003
    """
    query = replace(parse(of_command_line(words), Query(order=order).checked()), limit=limit, archived=True)
    kit = jobkit.connect()
    page = kit.page(query)
    reopened = kit.archive.reopen([job.id for job in page.jobs]) if reopens else {}
    columns = {name: cell for name, cell in JOB_COLUMNS.items() if name != "Progress"}
    columns |= {**out.SHORT_ID, "State": state_of}
    out.listing(as_json, page.jobs, columns, empty="No such jobs in the archive.")
    for job_id, left_out in reopened.items():
        if left_out:
            out.echo(f"The archive was not given the {left_out} of {job_id}.", err=True)
    for problem in page.problems:
        out.echo(problem, err=True)
    if page.next_cursor:
        out.echo(f"There are more than {limit:,}; --limit shows more of them.", err=True)
