"""`jobkit people`: the login file from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobkit.cli import main
from jobkit.people import is_password, read_login


def run(*arguments: str, typed: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(main, ["people", *arguments], input=typed)
    return done.exit_code, done.output


def test_people_are_put_in_listed_and_taken_out(tmp_path: Path) -> None:
    file = str(tmp_path / "users.json")

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


def test_what_cannot_be_put_in_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "users.json")

    assert run(file, "ada", typed="short\n")[0] == 2
    assert run(file, "a\nb", typed="a long password\n")[0] == 2
    assert not Path(file).exists()


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        (["--oauth", "myspace"], {}, "auth0, bitbucket, github"),
        (["--oauth", "github"], {}, "PANEL_OAUTH_KEY and PANEL_OAUTH_SECRET"),
        (
            ["--oauth", "github"],
            {"PANEL_OAUTH_KEY": "k", "PANEL_OAUTH_SECRET": "s"},
            "JOBKIT_ROLES='you@lab.example=admin",
        ),
        ([], {"PANEL_OAUTH_PROVIDER": "auth_code", "PANEL_OAUTH_KEY": "k"}, "PANEL_OAUTH_AUTHORIZE_URL and"),
        (["--oauth", "azurev2"], {"PANEL_OAUTH_KEY": "k", "PANEL_OAUTH_SECRET": "s"}, "AAD_TENANT_ID"),
        (["--key", "server.key"], {}, "--cert FILE"),
        (["--cert", "nowhere.pem"], {}, "--cert nowhere.pem cannot be used"),
        (["--host", "0.0.0.0"], {}, "--oauth PROVIDER"),
    ],
)
def test_a_dashboard_whose_login_or_tls_could_not_work_does_not_start(
    options: list[str], environ: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("it was started"))
    known = {name: None for name in os.environ if name.startswith(("PANEL_", "JOBKIT_", "AAD_"))}

    done = CliRunner().invoke(main, ["dashboard", *options], env={**known, "JOBKIT_URL": "sync://", **environ})

    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
