"""Settings: argument beats environment beats `[tool.jobkit]` beats default; wrong values are named."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from jobkit.model import InvalidParams
from jobkit.settings import Settings, checked_name, masked, user_name


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Empty directory inside a directory with another tool's `pyproject.toml`."""
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    inner = tmp_path / "notebooks" / "deep"
    inner.mkdir(parents=True)
    return inner


def table(project: Path, text: str) -> Path:
    path = project.parent / "pyproject.toml"
    path.write_text(f"[tool.jobkit]\n{text}\n", encoding="utf-8")
    return path


def load(project: Path, environ: dict[str, str] | None = None, **arguments: Any) -> Settings:
    return Settings.load(environ or {}, project, **arguments)


def test_times_may_be_text() -> None:
    loaded = Settings.load(environ={"JOBKIT_RESULT_TTL": "7d", "JOBKIT_LEASE": "1e1"}, idle_stop="90m", drain="30.0")
    assert (loaded.result_ttl, loaded.lease, loaded.idle_stop, loaded.drain) == (604_800, 10, 5400, 30)


def test_without_any_setting_the_defaults_apply(project: Path) -> None:
    settings = load(project)

    assert settings == Settings()
    assert (settings.url, settings.namespace, settings.is_embedded) == ("local://", "default", True)
    assert (settings.lease, settings.heartbeat, settings.cancel_grace, settings.drain) == (15, 5, 10, 30)
    assert (settings.idle_stop, settings.result_ttl, settings.max_losses) == (600, 604_800, 5)


def test_argument_beats_environment_beats_file_beats_default(project: Path) -> None:
    table(project, 'url = "redis://file"\nnamespace = "file"\nlease = 40\ndrain = 4')
    environ = {"JOBKIT_URL": "redis://environment", "JOBKIT_NAMESPACE": "environment", "JOBKIT_LEASE": "50"}

    settings = load(project, environ, url="redis://argument")

    assert (settings.url, settings.namespace) == ("redis://argument", "environment")
    assert (settings.lease, settings.drain, settings.heartbeat) == (50.0, 4.0, 5.0)


def test_none_and_an_empty_variable_mean_not_given(project: Path) -> None:
    table(project, 'url = "redis://file"')

    assert load(project, {"JOBKIT_URL": ""}, url=None).url == "redis://file"


def test_every_setting_can_be_given_in_the_environment(project: Path) -> None:
    environ = {
        "JOBKIT_URL": "redis://host",
        "JOBKIT_HOME": "/some/home",
        "JOBKIT_SECRET": "s1,s2",
        "JOBKIT_NAMESPACE": "team",
        "JOBKIT_TASKS": "a.b, c,,",
        "JOBKIT_SLOTS": "6",
        "JOBKIT_LEASE": "3",
        "JOBKIT_HEARTBEAT": "1.5",
        "JOBKIT_CANCEL_GRACE": "0",
        "JOBKIT_DRAIN": "1",
        "JOBKIT_REPLY_TIMEOUT": "4s",
        "JOBKIT_IDLE_STOP": "2",
        "JOBKIT_RESULT_TTL": "1e3",
        "JOBKIT_MAX_LOSSES": "1",
        "JOBKIT_KEEP": "1000",
        "JOBKIT_RESULTS": "s3://bucket/x",
        "JOBKIT_ARCHIVE": "s3://bucket/y",
        "JOBKIT_ARCHIVE_FILES": "2.5 GB",
        "JOBKIT_MLFLOW": "http://mlflow:5000",
        "JOBKIT_START_METHOD": "spawn",
        "JOBKIT_IMPORT_AHEAD": "0",
        "JOBKIT_LOCALS": "1",
        "JOBKIT_MADE_BY": "no-diff",
        "JOBKIT_MADE_ENV": "OMP_*, CUDA_VISIBLE_DEVICES",
        "JOBKIT_PUBLIC_URL": "https://jobs.example",
        "JOBKIT_MERCURE_URL": "https://hub.example/.well-known/mercure",
        "JOBKIT_MERCURE_JWT": "a.b.c",
        "JOBKIT_STREAMS": "20",
        "JOBKIT_STREAMS_PER_SUBJECT": "2",
        "JOBKIT_STREAM_HEARTBEAT": "5s",
        "JOBKIT_MERCURE_KEY": "k" * 32,
        "JOBKIT_TOKEN_SECRET": "t1",
        "JOBKIT_ORIGINS": "https://a.example, https://b.example",
        "JOBKIT_NOTIFY": '[{"on": "ended", "url": "https://chat.example/hook"}]',
        "JOBKIT_OTEL": "yes",
        "JOBKIT_LOG_FORMAT": "json",
        "JOBKIT_LOGIN": "/some/users.json",
        "JOBKIT_ROLES": "ada = admin, *@lab.example=own",
        "JOBKIT_POOLS": '{"gpu": {"on": "slurm", "max": 4}}',
    }
    assert {f"JOBKIT_{f.name.upper()}" for f in fields(Settings)} - set(environ) == {
        "JOBKIT_ROUTING",
        "JOBKIT_SECRET_FILE",
    }

    settings = load(project, environ)

    assert (settings.home, settings.secret, settings.tasks) == (Path("/some/home"), "s1,s2", ("a.b", "c"))
    assert (settings.lease, settings.heartbeat, settings.cancel_grace, settings.result_ttl) == (3, 1.5, 0, 1000)
    assert (settings.slots, settings.max_losses, settings.keep) == (6, 1, 1000)
    assert settings.reply_timeout == 4
    assert (settings.results, settings.archive) == ("s3://bucket/x", "s3://bucket/y")
    assert settings.archive_files == 2_500_000_000
    assert settings.mlflow == "http://mlflow:5000"
    assert (settings.start_method, settings.import_ahead, settings.locals) == ("spawn", False, True)
    assert ([rule.name for rule in settings.notify], settings.otel) == (["chat.example"], True)
    assert settings.log_format == "json"
    assert (settings.made_by, settings.made_env) == ("no-diff", "OMP_*, CUDA_VISIBLE_DEVICES")
    assert (settings.streams, settings.streams_per_subject, settings.stream_heartbeat) == (20, 2, 5)
    assert (settings.mercure_key, settings.token_secret, settings.login_secret) == ("k" * 32, "t1", "t1")
    assert settings.login == "/some/users.json"
    assert dict(settings.roles) == {"ada": "admin", "*@lab.example": "own"}
    assert dict(settings.pools) == {"gpu": {"on": "slurm", "max": 4}}


def test_the_secret_can_be_in_a_file_that_a_container_mounts(project: Path, tmp_path: Path) -> None:
    """Kubernetes mounts a link to a link, and files of root's that their group can read."""
    (tmp_path / "..data").mkdir()
    mounted = tmp_path / "..data" / "secret"
    (tmp_path / "secret").symlink_to("..data/secret")
    environ = {"JOBKIT_SECRET_FILE": str(tmp_path / "secret")}
    mounted.write_text("s1,s2\n")
    mounted.chmod(0o440 if mounted.stat().st_uid == 0 else 0o400)

    assert load(project, environ).secret == "s1,s2"
    assert load(project, {**environ, "JOBKIT_SECRET": "s3"}).secret == "s3"

    for mode, text, named in ((0o444, "s1", "chmod 600"), (0o600, " \n", "is empty"), (0o600, "\ud800", "not text")):
        mounted.chmod(0o600)
        mounted.write_text(text, "utf-8", "surrogatepass")
        mounted.chmod(mode)
        with pytest.raises(InvalidParams, match=named) as raised:
            load(project, environ)
        assert raised.value.field == "secret"
    with pytest.raises(InvalidParams, match="No such file"):
        load(project, {"JOBKIT_SECRET_FILE": str(tmp_path / "none")})


def test_on_a_hub_the_user_is_the_one_of_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ada@lab.example")

    assert user_name() == "ada@lab.example"


def test_the_nearest_table_is_used_and_files_without_one_are_skipped(project: Path) -> None:
    table(project, 'namespace = "near"')
    (project.parent.parent / "pyproject.toml").write_text('[tool.jobkit]\nnamespace = "far"\n')
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")

    assert load(project).namespace == "near"


def test_lists_and_tables_come_from_the_file(project: Path) -> None:
    table(project, 'tasks = ["a", "b.c"]\n[tool.jobkit.routing]\n"train_*" = "gpu"\n"*" = "rest"')

    settings = load(project)

    assert settings.tasks == ("a", "b.c")
    assert settings.queue_for("train_model") == "gpu"
    assert settings.queue_for("simulate") == "rest"
    assert Settings().queue_for("simulate") == "default"
    assert Settings().queue_for("simulate", "own") == "own"


def test_routing_can_be_set_for_one_process() -> None:
    settings = Settings.load({"JOBKIT_ROUTING": "train_*=gpu, *=rest"})

    assert (settings.queue_for("train_a", "default"), settings.queue_for("x", "default")) == ("gpu", "rest")
    with pytest.raises(InvalidParams, match="queue must be 1 to 200 characters"):
        Settings.load({"JOBKIT_ROUTING": "a=b,c"})


def test_routing_is_case_sensitive_and_the_first_match_wins() -> None:
    settings = Settings(routing={"Train": "one", "train*": "two", "train_x": "three"})

    assert settings.queue_for("train_x") == "two"
    assert settings.queue_for("Train") == "one"
    assert settings.queue_for("TRAIN") == "default"


def test_the_directory_of_a_local_url_is_the_home(project: Path) -> None:
    settings = load(project, {"JOBKIT_URL": "local:///some/dir"})

    assert (settings.url, settings.home) == ("local://", Path("/some/dir"))
    assert settings.masked_url == "local:///some/dir"
    assert load(project, url="local://~/jobs").home == Path("~/jobs").expanduser()


def test_a_relative_home_is_made_absolute(project: Path) -> None:
    assert load(project, home="x").home == Path.cwd() / "x"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+sentinel", "sync"])
def test_every_scheme_of_the_contract_is_accepted(project: Path, scheme: str) -> None:
    settings = load(project, url=f"{scheme}://x")

    assert (settings.scheme, settings.is_embedded) == (scheme, False)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        ({"url": "http://host"}, "url", r"url 'http://host' is not understood; use local://, redis://"),
        ({"url": "localhost:6379"}, "url", r"url 'localhost:6379' is not understood"),
        ({"url": "redis:/host"}, "url", r"is not understood"),
        ({"url": "mysql://u:secret@host"}, "url", r"url 'mysql://u:\*\*\*@host' is not understood"),
        ({"url": 5}, "url", r"argument url: url must be text, not int"),
        ({"namespace": "a b"}, "namespace", r"namespace must be 1 to 200 characters of .*, not 'a b'"),
        ({"namespace": "x" * 201}, "namespace", r"namespace must be 1 to 200 characters"),
        ({"namespace": ""}, "namespace", r"namespace must be 1 to 200 characters"),
        ({"lease": "soon"}, "lease", r"argument lease: lease must be seconds or a text like .*, 0 or more, not 'soon'"),
        ({"lease": -1}, "lease", r"be seconds or a text like .*, 0 or more, not -1"),
        ({"lease": float("nan")}, "lease", r"be seconds or a text like .*, 0 or more, not nan"),
        ({"lease": float("inf")}, "lease", r"be seconds or a text like .*, 0 or more, not inf"),
        ({"lease": True}, "lease", r"be seconds or a text like .*, 0 or more, not True"),
        ({"lease": []}, "lease", r"be seconds or a text like .*, 0 or more, not \[\]"),
        ({"max_losses": 0}, "max_losses", r"max_losses must be a whole number from 1, not 0"),
        ({"max_losses": "two"}, "max_losses", r"max_losses must be a whole number from 1, not 'two'"),
        ({"max_losses": 1.5}, "max_losses", r"max_losses must be a whole number from 1, not 1.5"),
        ({"start_method": "x"}, "start_method", r"start_method must be one of auto, fork, spawn, not 'x'"),
        ({"locals": "perhaps"}, "locals", r"locals must be true or false, not 'perhaps'"),
        ({"tasks": 5}, "tasks", r"tasks must be module names, comma-separated, not 5"),
        ({"tasks": [5]}, "tasks", r"tasks must be module names, comma-separated, not \[5\]"),
        ({"routing": "gpu"}, "routing", r"routing must be a table of pattern = queue, not 'gpu'"),
        ({"routing": {"x": "a b"}}, "queue", r"queue must be 1 to 200 characters of .*, not 'a b'"),
        ({"secret": 5}, "secret", r"secret must be text, not int"),
        ({"home": 5}, "home", r"argument home: home must be a path, not 5"),
        ({"leese": 3}, "leese", r"unknown setting 'leese'; allowed are archive, archive_files, cancel_grace, drain"),
        ({"lease": 5, "heartbeat": 3}, "lease", r"at least twice the heartbeat: got lease=5 and heartbeat=3"),
        ({"lease": 5}, "lease", None),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_setting(
    project: Path, arguments: dict[str, Any], field: str, message: str | None
) -> None:
    with pytest.raises(InvalidParams, match=message or "at least twice") as caught:
        load(project, **arguments)

    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_the_error_of_a_wrong_value_names_its_source(project: Path) -> None:
    with pytest.raises(InvalidParams, match=r"^JOBKIT_DRAIN: drain must be"):
        load(project, {"JOBKIT_DRAIN": "x"})

    path = table(project, 'drain = "x"')
    with pytest.raises(InvalidParams, match="drain must be") as caught:
        load(project)
    assert str(caught.value).startswith(f"[tool.jobkit] in {path}: ")


@pytest.mark.parametrize("name", ["secret", "home", "leese"])
def test_the_file_may_not_set_secrets_homes_or_unknown_settings(project: Path, name: str) -> None:
    table(project, f'{name} = "x"')

    with pytest.raises(InvalidParams, match=f"unknown setting '{name}'; allowed are") as caught:
        load(project)
    assert "secret," not in str(caught.value).replace(f"'{name}'", "")


def test_a_broken_file_is_named(project: Path) -> None:
    path = table(project, "= 5")

    with pytest.raises(InvalidParams, match="is not valid TOML") as caught:
        load(project)
    assert str(path) in str(caught.value)


def test_a_file_of_another_encoding_is_skipped(project: Path) -> None:
    (project / "pyproject.toml").write_bytes(b"\xff\xfe[tool.jobkit]")

    assert load(project) == Settings()


@pytest.mark.parametrize("text", ["tool = 5", "[tool]\njobkit = 5"])
def test_a_value_that_is_not_a_table_is_skipped(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)

    assert load(project) == Settings()


def test_the_secret_is_not_shown() -> None:
    assert "hunter2" not in repr(Settings(secret="hunter2"))


# -- masks and names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:pw@host/0", "redis://:***@host/0"),
        ("redis://user:pw@host:1/0?x=1", "redis://user:***@host:1/0?x=1"),
        ("redis://user@host", "redis://user@host"),
        ("rediss://u:p%40w@[::1]:6380/2", "rediss://u:***@[::1]:6380/2"),
        ("redis://u:p@w@host", "redis://u:***@host"),
        ("redis+sentinel://u:pw@a:1,b:2/main", "redis+sentinel://u:***@a:1,b:2/main"),
        ("redis+sentinel://a:1/m?sentinel_password=pw&x=1", "redis+sentinel://a:1/m?sentinel_password=***&x=1"),
        ("unix:///path/to.sock?password=pw", "unix:///path/to.sock?password=***"),
        ("unix://user:pw@/path/to.sock?db=1", "unix://user:***@/path/to.sock?db=1"),
        ("redis://u:pw@[broken", "redis://u:***@[broken"),
        ("redis://u:p/w@host", "redis://u:***@host"),
        ("redis://u:p#w@host/0", "redis://u:***@host/0"),
        ("redis://u:p?w@host/0", "redis://u:***@host/0"),
        ("redis://host/0#password=pw", "redis://host/0#password=***"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize("name", ["a", "A.b:c-d_9", "x" * 200])
def test_valid_names_are_accepted(name: str) -> None:
    assert checked_name("queue", name) == name


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "a\n", "x" * 201, None, 5, b"a", ["a"]])
def test_invalid_names_are_refused_and_shown_shortened(name: object) -> None:
    with pytest.raises(InvalidParams, match="queue must be 1 to 200 characters of A-Z a-z 0-9") as caught:
        checked_name("queue", name)

    assert caught.value.field == "queue"
    assert len(str(caught.value)) < 160


def test_a_user_without_a_name_has_an_empty_user_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNAME", "")  # a separate environment: names are cached by it
    monkeypatch.setattr("getpass.getuser", lambda: {}["no such user"])

    assert user_name() == ""


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("7", "must be a list of rules"),
        ("{", "not valid JSON"),
        ('["x"]', "a notify rule is a table"),
        ('[{"urls": "x"}]', "unknown key 'urls'"),
        ('[{"on": "exploded", "url": "http://x"}]', "not 'exploded'"),
        ('[{"on": [], "url": "http://x"}]', "on needs an event"),
        ('[{"url": "ftp://x"}]', "must be http:// or https://"),
        ('[{"url": "http://x", "command": ["y"]}]', "either a url or a command"),
        ('[{"on": "failed"}]', "either a url or a command"),
        ('[{"command": "rm -rf x"}]', "list of program and arguments"),
        ('[{"url": "http://x", "task": 7}]', "task of a notify rule must be text"),
    ],
)
def test_a_notify_rule_that_is_not_understood_is_refused(project: Path, rule: str, said: str) -> None:
    with pytest.raises(InvalidParams, match=said):
        load(project, {"JOBKIT_NOTIFY": rule})


def test_notify_rules_are_tables_of_the_project_file(project: Path) -> None:
    table(project, '[[tool.jobkit.notify]]\non = ["failed", "lost"]\ntask = "train_*"\ncommand = ["notify-send", "oh"]')

    (rule,) = load(project).notify

    assert (sorted(rule.on), rule.command) == (["failed", "lost"], ("notify-send", "oh"))
    assert rule.wants("train_big", "gpu", "ada")
    assert not rule.wants("evaluate", "gpu", "ada")


@pytest.mark.parametrize(
    ("url", "missing"),
    [
        ("local://", ""),
        ("sync://", ""),
        ("unix:///run/redis.sock", ""),
        ("redis://localhost:6379/0", ""),
        ("redis://127.0.0.2", ""),
        ("redis://[::1]:6379", ""),
        ("redis:///0", ""),
        ("redis://redis.example", "TLS and a password"),
        ("redis://127.0.0.1.example:6379/0", "TLS and a password"),
        ("redis://[2001:db8::1]:6379", "TLS and a password"),
        ("redis://user@redis.example", "TLS and a password"),
        ("redis://:word@redis.example", "TLS"),
        ("redis://redis.example/0?password=word", "TLS"),
        ("rediss://redis.example", "a password"),
        ("rediss://user:word@redis.example:6380/0", ""),
        ("redis+sentinel://localhost:26379,b.example:26379/main", "TLS and a password"),
    ],
)
def test_the_missing_protection_of_a_redis_on_the_network_is_known(url: str, missing: str) -> None:
    assert Settings(url=url).missing_guard == missing
