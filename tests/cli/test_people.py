"""`jobkit people`: the login file from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from jobkit.access.own_machine import ADDRESS_VARIABLE
from jobkit.access.people import is_password, read_login
from jobkit.cli import BadInput, age, main
from tests.support import by_default


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


def test_times_can_be_written_in_several_ways() -> None:
    option = click.Option(["--expires"])
    context = click.Context(main)

    seconds = [age(context, option, text) for text in ("90", "15m", "12h", "30d", "4w", "1.5h", None)]

    assert seconds == [90, 900, 43_200, 2_592_000, 2_419_200, 5400, None]
    with pytest.raises(BadInput, match="--expires must be a time like 90, 15m, 2h, 30d or 4w, not 'soon'"):
        age(context, option, "soon")
