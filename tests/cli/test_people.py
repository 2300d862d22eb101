"""`jobkit people`: the login file from the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import redis
from click.testing import CliRunner

import jobkit
from jobkit.access.own_machine import ADDRESS_VARIABLE
from jobkit.access.people import is_password, read_login
from jobkit.cli import BadInput, age, main
from jobkit.client.loop import background
from jobkit.connecting import default_kit
from jobkit.model.person import AuditEntry
from tests.store.server import Server
from tests.support import by_default, keep_from_writing_audit


def run(*arguments: str, typed: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(main, ["people", *arguments], input=typed)
    return done.exit_code, done.output


def test_users_are_added_listed_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobkit.access.people._N", 16)  # hashes that cost little
    file = str(tmp_path / "users.json")

    status, said = run(file)
    assert (status, "does not exist" in said) == (2, True)
    assert run(file, "ada", "--role", "admin", typed="a long password\n")[0] == 0
    assert run(file, "bob", typed="another password\n")[0] == 0
    assert run(file, "bob", "--role", "own", typed="\n")[0] == 0  # keeps his password

    people = read_login(file)
    assert is_password("a long password", people["ada"])
    assert is_password("another password", people["bob"])
    assert {name: str(each.role) for name, each in people.items()} == {"ada": "admin", "bob": "own"}
    assert "password" not in Path(file).read_text().replace('"password"', "")
    assert [each["name"] for each in json.loads(run(file, "--json")[1])] == ["ada", "bob"]
    assert run(file, "bob", "--remove")[0] == 0
    assert set(read_login(file)) == {"ada"}


def test_invalid_users_are_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "users.json")

    assert run(file, "ada", typed="short\n")[0] == 2
    assert run(file, "a\nb", typed="a long password\n")[0] == 2
    assert not Path(file).exists()


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    by_default(
        [
            (["--oauth", "myspace"], {}, "auth0, bitbucket, github"),
            (["--oauth", "github"], {}, "PANEL_OAUTH_KEY and PANEL_OAUTH_SECRET"),
            (
                ["--oauth", "github"],
                {"PANEL_OAUTH_KEY": "k", "PANEL_OAUTH_SECRET": "s"},
                "JOBKIT_ROLES='you@lab.example=admin",
            ),
            ([], {"PANEL_OAUTH_PROVIDER": "auth_code", "PANEL_OAUTH_KEY": "k"}, "PANEL_OAUTH_AUTHORIZE_URL and"),
            (
                ["--oauth", "auth_code"],
                {"PANEL_OAUTH_KEY": "k", "PANEL_OAUTH_EXTRA_PARAMS": "{}"},
                "JOBKIT_PUBLIC_URL=",
            ),
            (["--oauth", "azurev2"], {"PANEL_OAUTH_KEY": "k", "PANEL_OAUTH_SECRET": "s"}, "AAD_TENANT_ID"),
            (["--key", "server.key"], {}, "--cert FILE"),
            (["--cert", "nowhere.pem"], {}, "--cert nowhere.pem cannot be used"),
            (["--host", "0.0.0.0"], {}, "--oauth PROVIDER"),
        ]
    ),
)
def test_a_dashboard_with_a_broken_login_or_tls_does_not_start(
    options: list[str], environ: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("it was started"))
    known = {name: None for name in os.environ if name.startswith(("PANEL_", "JOBKIT_", "AAD_"))}

    done = CliRunner().invoke(main, ["dashboard", *options], env={**known, "JOBKIT_URL": "sync://", **environ})

    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("host", "environ", "printed"),
    [
        ("0.0.0.0", {}, "http://192.0.2.7:5999/"),
        ("192.0.2.8", {}, "http://192.0.2.8:5999/"),
        ("127.0.0.1", {}, "http://localhost:5999/"),
        ("::1", {}, "http://[::1]:5999/"),
        ("0.0.0.0", {"JOBKIT_PUBLIC_URL": "https://jobs.example"}, "https://jobs.example"),
    ],
)
def test_a_dashboard_prints_an_address_that_colleagues_can_use(
    host: str, environ: dict[str, str], printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: dict[str, str] = {}
    monkeypatch.setattr("os.execve", lambda _program, _argv, environ: served.update(environ))
    monkeypatch.setattr("jobkit.cli.serve.own_address", lambda: "192.0.2.7")
    monkeypatch.setattr("jobkit.cli.serve.free_port", lambda port, host: port)
    users = tmp_path / "users.json"
    users.write_text('{"ada": "a long password"}')
    users.chmod(0o600)
    options = ["--host", host, "--port", "5999", "--login", str(users)]

    done = CliRunner().invoke(main, ["dashboard", *options], env={"JOBKIT_URL": "sync://", **environ})

    assert (done.exit_code, served[ADDRESS_VARIABLE]) == (0, printed)
    assert printed not in done.output  # the server prints the address when it listens


# -- jobkit audit -----------------------------------------------------------------------------------------------------


@pytest.fixture
def kit() -> Iterator[jobkit.Kit]:
    """Kit on a separate server, for commands in this process."""
    with Server() as server, jobkit.connect(server.url, secret="of these tests") as made, default_kit(made):
        yield made


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


def told(*options: str) -> list[dict[str, Any]]:
    done = cli("audit", "--json", *options)
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_changes_of_schedules_and_limits_are_in_the_audit_trail(kit: jobkit.Kit) -> None:
    assert cli("schedule", "count_words", "--every", "3600", "--name", "hourly").exit_code == 0
    for command in ("pause", "resume", "run", "remove"):
        assert cli("schedules", command, "hourly").exit_code == 0
    for command in (["set", "--concurrency", "2"], ["remove"]):
        assert cli("limits", *command, "--queue", "gpu").exit_code == 0

    assert [(entry["action"], entry["targets"]) for entry in reversed(told())] == [
        ("add_schedule", ["count_words"]),
        ("pause_schedule", ["hourly"]),
        ("resume_schedule", ["hourly"]),
        ("run_schedule", ["hourly"]),
        ("remove_schedule", ["hourly"]),
        ("limit_queue", ["gpu"]),
        ("unlimit_queue", ["gpu"]),
    ]


def test_the_audit_trail_is_filtered_and_listed_newest_first(kit: jobkit.Kit) -> None:
    empty = cli("audit")
    assert (empty.exit_code, empty.stdout, empty.stderr.strip()) == (0, "", "No actions yet.")
    assert told() == []
    job = kit.submit(len, "abc").id
    for who, action, note in (("ada", "cancel", "done"), ("bob", "cancel", "\x1b[2Jno"), ("bob", "retry", "done")):
        background.call(kit.verbs.trail.note(AuditEntry.of(who, "own", "page", action, "job", [job], "done", note)))
    assert cli("cancel", job).exit_code == 0

    assert [(each["action"], each["via"]) for each in told()] == [
        ("cancel", "cli"), ("retry", "page"), ("cancel", "page"), ("cancel", "page")
    ]  # fmt: skip
    assert [each["action"] for each in told("--who", "bob")] == ["retry", "cancel"]
    assert [each["who"] for each in told("--action", "cancel", "--who", "ada")] == ["ada"]
    assert [each["action"] for each in told("-n", "1")] == ["cancel"]
    assert cli("prune", "--keep", "0").stdout == "1 jobs deleted\n"
    assert [(each["action"], each["count"]) for each in told("-n", "1")] == [("prune", 1)]
    assert told("--who", "b*") == []
    table = cli("audit", "--who", "bob").stdout
    assert [word for word in ("WHEN", "bob", "retry", f"job {job[:8]}", "succeeded") if word not in table] == []
    assert "\x1b" not in table


def test_repeated_failures_are_one_line_with_a_count(kit: jobkit.Kit) -> None:
    for n in range(1200):
        background.call(
            kit.verbs.trail.note(AuditEntry.of("eve", "own", "http", "cancel", "job", [f"job{n}"], "failed", "no"))
        )

    (entry,) = told()
    assert (entry["times"], entry["count"], entry["since"] <= entry["at"]) == (1200, 1200, True)
    assert [word for word in ("1,200 jobs", "failed 1,200 times") if word not in cli("audit").stdout] == []


@pytest.mark.parametrize("options", by_default([["-n", "0"], ["-n", "many"], ["--since", "today"], ["bob"]]))
def test_the_audit_trail_refuses_unknown_filters(options: list[str]) -> None:
    done = cli("audit", *options)

    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_a_failure_to_write_the_audit_trail_is_reported(kit: jobkit.Kit) -> None:
    job = kit.submit(len, "abc")
    with redis.Redis.from_url(kit.settings.url) as client:
        keep_from_writing_audit(client)

    done = cli("cancel", job.id)

    assert done.exit_code == 0
    assert done.stderr.startswith("jobkit: done, but not recorded in the audit log: ")
    assert kit.snapshot(job.id).state == "cancelled"

    again = cli("cancel", job.id)

    assert again.exit_code == 1
    ended, unrecorded = again.stderr.splitlines()
    assert ended == f"job {job.id} has already ended (cancelled)"
    assert unrecorded.startswith("jobkit: not recorded in the audit log: ")


def test_times_can_be_written_in_several_ways() -> None:
    option = click.Option(["--expires"])
    context = click.Context(main)

    seconds = [age(context, option, text) for text in ("90", "15m", "12h", "30d", "4w", "1.5h", None)]

    assert seconds == [90, 900, 43_200, 2_592_000, 2_419_200, 5400, None]
    with pytest.raises(BadInput, match="--expires must be a time like 90, 15m, 2h, 30d or 4w, not 'soon'"):
        age(context, option, "soon")
