"""`jobkit people`: the login file from the command line."""

from __future__ import annotations

import json
from pathlib import Path

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
