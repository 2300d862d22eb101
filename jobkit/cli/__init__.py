"""The command line: `jobkit`.

Commands are in modules by subject and imported when they are called, so `jobkit --help` and small commands start at
once. An error is one sentence on stderr and an exit status, see `group`.
"""

from __future__ import annotations

import os

import click

from jobkit.cli.group import Commands

#: Command -> its module, and its line in `--help`, in the order of a job's life.
COMMANDS = {
    "up": ("up", "Run server, workers and dashboard in the foreground."),
    "worker": ("worker", "Run jobs."),
    "dashboard": ("dashboard", "Serve the dashboard and the HTTP API."),
    "submit": ("jobs", "Submit a job and print its id."),
    "jobs": ("jobs", "List jobs, newest first."),
    "show": ("jobs", "Show everything about a job."),
    "watch": ("jobs", "Follow a job to its end."),
    "logs": ("jobs", "Print the log of a job."),
    "cancel": ("jobs", "Ask jobs to stop."),
    "retry": ("jobs", "Run ended jobs again."),
    "failed": ("failed", "List, show, retry, delete, mute or resolve groups of failed jobs."),
    "rm": ("jobs", "Delete ended jobs."),
    "prune": ("jobs", "Delete expired jobs."),
    "export": ("export", "Export jobs as JSON lines."),
    "import": ("export", "Import exported jobs."),
    "schedule": ("schedules", "Run a task repeatedly, or once later."),
    "schedules": ("schedules", "List, show, pause, resume, run or delete schedules."),
    "tasks": ("queues", "List tasks."),
    "queues": ("queues", "List queues and their numbers of jobs."),
    "workers": ("worker", "List workers."),
    "stats": ("queues", "Show totals, once or live."),
    "pause": ("queues", "Pause queues or tasks."),
    "resume": ("queues", "Resume paused queues or tasks."),
    "move": ("jobs", "Move waiting jobs to another queue or priority."),
    "limit": ("queues", "Limit how many jobs of a queue or task run."),
    "stop": ("worker", "Ask workers to finish their jobs and exit."),
    "audit": ("people", "List the actions of users."),
    "people": ("people", "Edit a login file: names, passwords, roles."),
    "token": ("people", "Create or revoke a token for the HTTP API."),
    "down": ("up", "Stop the embedded server and its workers."),
    "doctor": ("doctor", "Check the configuration, the server and the workers."),
}


def _version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        from jobkit import __version__

        click.echo(f"jobkit {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    commands_by_module={name: (f"jobkit.cli.{module}", line) for name, (module, line) in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--url", metavar="URL", help="Store of the jobs: local://, redis://host, ... [JOBKIT_URL]")
@click.option("--namespace", metavar="NAME", help="Prefix of all keys and channels. [JOBKIT_NAMESPACE]")
@click.option("--home", metavar="DIR", help="Directory of the embedded server. [JOBKIT_HOME]")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def main(url: str | None, namespace: str | None, home: str | None) -> None:
    """Long jobs: submit them, watch them live, get the result later."""
    # Options become environment variables, so that the processes that a command starts get them too.
    for name, value in (("URL", url), ("NAMESPACE", namespace), ("HOME", home)):
        if value is not None:
            os.environ[f"JOBKIT_{name}"] = value
