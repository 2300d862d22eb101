"""`jobkit token` for the hub."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobkit.cli import main
from jobkit.client.kit import Kit
from jobkit.connecting import default_kit
from jobkit.features.mercure.grants import hub_keys
from tests.http.direct import Direct

HUB = "/.well-known/mercure"


def run(capsys: pytest.CaptureFixture[str], kit: Kit, *words: str) -> tuple[int, str, str]:
    with default_kit(kit), pytest.raises(SystemExit) as caught:
        main(["token", *words])
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out.strip(), said.err


def test_a_token_publishes_to_its_topics_and_opens_nothing_else(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    status, token, _ = run(capsys, kit, "--publish", "https://example.com/{id}")
    hub = Direct(kit)
    try:
        told = hub.ask("POST", HUB, token=token, form="topic=https://example.com/1&data=x").status
        other = hub.ask("POST", HUB, token=token, form="topic=https://example.org/1&data=x").status
        jobs = hub.ask("GET", "/api/jobs", token=token).status
    finally:
        hub.close()

    assert (status, told, other, jobs) == (0, 200, 403, 403)


def test_the_key_of_the_hub_is_printed_alone_if_there_is_one(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    status, key, _ = run(capsys, kit, "--mercure-key")
    with Kit(replace(kit.settings, secret="")) as bare:
        refused, _, why = run(capsys, bare, "--mercure-key")

    assert (status, key) == (0, hub_keys(kit.settings)[0])
    assert (refused, "JOBKIT_SECRET is not set" in why) == (2, True)
