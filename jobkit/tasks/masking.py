"""Secrets in names and texts, masked before anything is shown or kept for display.

Used for arguments, environment variables, diffs and local variables. It is a precaution, not a promise: what has
neither the name nor the shape of a secret stays. Times are linear in the length of a text: a repetition is bounded, or
follows a character that it does not contain, so that no run of characters is searched twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

MASK = "***"

#: Not "tokenizer" and "tokenization".
_WORDS = r"secret|token(?!i[sz])|password|passwd|pwd|passphrase|credential|(?:api|access|account|private)[_-]?key"
_NAME = re.compile(rf"(^|_)({_WORDS}|authorization)s?($|_)", re.IGNORECASE)

#: Words of secrets that may be numbers: a PIN, a part of a private key.
_NUMERIC = re.compile("pass|pwd|secret|private", re.IGNORECASE)

#: Blocks of several lines; one without an end goes on to the end of the text.
_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r".*?(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)

#: A name, perhaps as a key (`["api_key"]`) or with an annotation (`api_key: str = ...`), and its value. It begins
#: a word and is short: in long ones, each character would be looked at again and again.
_FIELD = re.compile(
    rf"""(?P<name>(?<!\w)["']?\w{{0,60}}(?:{_WORDS})\w{{0,60}}
            ["']?\]?\s*(?::\s*[\w.\[\]]+(?:\s*\|\s*[\w.\[\]]+)*\s+(?==\s))?[=:]\s*)
        (?:[bfru]{{0,2}}(?:\'{{3}}[^']*(?:\'{{3}})?|"{{3}}[^"]*(?:"{{3}})?|'(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?)
            |[^\s,)}}\]]+)""",
    re.IGNORECASE | re.VERBOSE,
)

#: The header of a request with the credentials of its sender, also in code.
_HEADER = re.compile(
    r"""(?P<name>(?<!\w)(?:proxy-)?authorization["']?\]?\s{0,20}[:=]\s{0,20}(?:[bfru]{0,2}["'])?)
        (?:[a-z]{1,20}\s{1,20})?[\w.~+/=:-]{4,}""",
    re.IGNORECASE | re.VERBOSE,
)
#: The token has a digit or a capital letter, unlike the next word of a sentence about bearers.
_BEARER = re.compile(r"(?P<name>(?<!\w)(?i:bearer)\s{1,20})(?=[\w.~+/=-]{0,60}[\dA-Z])[\w.~+/=-]{6,}")

#: After the name of a user; a number with a path behind it is the port of a host.
_URL = re.compile(r"(?P<name>\w://[^\s:/@'\"]{0,200}:)(?!\d{1,5}/)[^\s'\"]{0,500}@")

#: Tokens that their services made easy to find: GitHub, GitLab, AWS, OpenAI and others, Stripe, Slack, Google, Hugging
#: Face, PyPI, npm, SendGrid, Docker, and JSON web tokens.
_TOKEN = re.compile(
    r"""(?<![\w-])(?:
        gh[oprsu]_\w{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}
        | A(?:KIA|SIA|ROA|IDA)[A-Z0-9]{12,}
        | sk-(?:\w{1,20}-){0,5}(?=\w{0,60}\d)\w{16,}[\w-]* | [rs]k_(?:live|test)_\w{10,}
        | xox[a-z]-[\w-]{8,} | xapp-[\w-]{8,}
        | AIza[\w-]{30,} | ya29\.[\w-]{16,} | hf_[A-Za-z0-9]{20,}
        | pypi-[\w-]{30,} | npm_[A-Za-z0-9]{30,} | SG\.[\w-]{16,}\.[\w-]{16,} | dckr_pat_[\w-]{16,}
        | eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*
    )""",
    re.VERBOSE,
)

#: What is masked in each line, in this order: pattern, what takes its place, and texts without any of which, in lower
#: case, nothing matches. Arguments of each submit are searched, and most have none of them.
_RULES: Sequence[tuple[re.Pattern[str], str, Sequence[str]]] = [
    (_HEADER, rf"\g<name>{MASK}", ["authorization"]),
    (_BEARER, rf"\g<name>{MASK}", ["bearer"]),
    (_TOKEN, MASK, [
        "ghp_", "gho_", "ghr_", "ghs_", "ghu_", "github_", "glpat-", "akia", "asia", "aroa", "aida", "sk-", "sk_",
        "rk_", "xox", "xapp-", "aiza", "ya29.", "hf_", "pypi-", "npm_", "sg.", "dckr_", "eyj",
    ]),
    (_FIELD, rf"\g<name>{MASK}", [
        "secret", "token", "passw", "pwd", "passphrase", "credential",
        *(f"{kind}{dash}key" for kind in ("api", "access", "account", "private") for dash in ("", "_", "-")),
    ]),
    (_URL, rf"\g<name>{MASK}@", ["://"]),
]  # fmt: skip


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """True for names whose values are never shown: token, password, api_key, ..."""
    return _NAME.search(name) is not None


def is_secret(name: str, value: object) -> bool:
    """Return True if a value is never shown: its name is secret, and it is no plain number (`max_tokens=512`).

    A password or private key may be a number.
    """
    if not is_secret_name(name):
        return False
    return not isinstance(value, int | float) or _NUMERIC.search(name) is not None


def masked(text: str) -> str:
    """Return a text without what looks like a secret.

    Masked are values of secret names (`password=...`), passwords in URLs, `Authorization` headers, private keys, and
    tokens of a known shape (`ghp_...`).
    """
    lower = text.lower()
    if "-----begin" in lower:
        text = _KEY.sub(MASK, text)
    rules = [(pattern, mask) for pattern, mask, hints in _RULES if any(hint in lower for hint in hints)]
    if not rules:
        return text
    lines = text.splitlines(keepends=True)
    for pattern, mask in rules:
        lines = [pattern.sub(mask, line) for line in lines]
    return "".join(lines)
