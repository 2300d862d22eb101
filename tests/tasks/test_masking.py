"""Masking of what looks like a secret in names and texts, and how long it takes."""

from __future__ import annotations

import time

import pytest

from jobkit.tasks.masking import is_secret, is_secret_name, masked


@pytest.mark.parametrize(
    "line",
    [
        'api_key: str = "S3"',
        'api_key: str | None = "S3"',
        'os.environ["OPENAI_API_KEY"] = "S3"',
        'token = """S3 S3',
        'login(password=f"a S3")',
        "Server=db;Uid=me;pwd=S3;",
        "DB_PWD: S3",
        "X-Api-Key: S3",
        "AccountName=me;AccountKey=S3",
        "redis://me:S3@host/0",
    ],
)
def test_values_of_secret_names_are_masked(line: str) -> None:
    assert "S3" not in masked(line)
    assert "***" in masked(line)


@pytest.mark.parametrize(
    "secret",
    [
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
        "glpat-xY3kz81mNsUuQ7ab_cde",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAY34FZKBOKMUTVV7A",
        "sk-proj-4kD9w0Zl2mQpXy7R",
        "sk-ant-api03-4kD9w0Zl2mQpXy7R",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "xoxb-123456789012-abcDEF",
        "AIzaSyA-1234567890abcdefghijklmnopqrstu",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    ],
)
@pytest.mark.parametrize("line", ["{}", "+run('{}')", "curl -u me:{} https://example.org", "a={}&b=1"])
def test_tokens_of_a_known_shape_are_masked_wherever_they_stand(secret: str, line: str) -> None:
    shown = masked(line.format(secret))

    assert secret not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("curl -H 'Authorization: Bearer aB3xyz9'", "curl -H 'Authorization: ***'"),
        ("Authorization: Basic bWU6aHVudGVyMg==", "Authorization: ***"),
        ('{"Authorization": "token 1234abcd"}', '{"Authorization": "***"}'),
        ("send Bearer mF_9.B5f-4.1JqM now", "send Bearer *** now"),
    ],
)
def test_headers_with_credentials_are_masked(line: str, shown: str) -> None:
    assert masked(line) == shown


def test_private_keys_are_masked_from_begin_to_end_or_to_the_end_of_the_text() -> None:
    key = "-----BEGIN {0}PRIVATE KEY-----\nMIIEow\n-----END {0}PRIVATE KEY-----"

    assert masked(f"a\n{key.format('RSA ')}\nb") == "a\n***\nb"
    assert masked(f"a {key.format('')} b\n{key.format('OPENSSH ')}\n") == "a *** b\n***\n"
    assert masked("a\n-----BEGIN EC PRIVATE KEY-----\nMIIEow\nMIIEox") == "a\n***"


@pytest.mark.parametrize(
    "text",
    [
        "import sklearn  # sk-learn-contrib-hdbscan is another package",
        "the bearer of this letter, and a Bearer certificate",
        "keys = sorted(row)",
        "monkey: banana",
        "https://example.org/a?b=c@d",
        "tokenizer(text)",
        "tokenizer=bert-base, tokenization: fast",
        "sk-learn-baseline-2024",
        "http://localhost:5000/packages/jobkit@1.2",
        "def f(x):\n    return x\n",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "token", "PASSWORD", "db_password", "db_pwd", "OPENAI_API_KEY", "apikey", "aws_access_key", "AUTH_TOKEN",
        "credentials", "secrets",
    ],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 512), ("token_rate", 0.5), ("use_token", True)])
def test_a_number_under_a_secret_name_is_no_secret(name: str, value: object) -> None:
    assert not is_secret(name, value)
    assert is_secret(name, str(value))


@pytest.mark.parametrize("name", ["password", "client_secret", "private_key"])
def test_a_password_or_key_may_be_a_number(name: str) -> None:
    assert is_secret(name, 1234)


@pytest.mark.parametrize("name", ["tokenizer", "tokenize", "key", "keyboard", "passage", "n", "monkey", "secretary"])
def test_other_names(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "part",
    [
        "a", "token", "a://b:", "ghp_", "-eyJ", "eyJaaaaaaaaaa.", "sk-", "Bearer ", "bearer a", "Authorization: ",
        "pwd ", "AKIA", "-----BEGIN ", "-----BEGIN RSA PRIVATE KEY-----", "-----END ", 'token="', "xoxb-", "key: a|",
        "token\n",
    ],
)  # fmt: skip
def test_long_lines_are_masked_in_a_moment(part: str) -> None:
    began = time.process_time()

    masked(part * (200_000 // len(part)))

    assert time.process_time() - began < 5
