"""Forwarding of job updates to an external hub, here another server of jobkit."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from tests.features.mercure.test_mercure import old_token, subscription, take
from tests.http.site import Site
from tests.support import wait_until
from tests.ui.stage import Stage

PUBLIC = "https://jobs.example"


def test_changes_of_jobs_reach_an_external_hub_in_order_also_after_a_restart(
    serve: Callable[..., Site], kit: Kit, stage: Stage
) -> None:
    other = Kit(replace(kit.settings, namespace=f"t{secrets.token_hex(4)}"))
    hub = serve(kit=other, is_open_on_loopback=False)
    publisher = old_token(hub, mercure={"publish": [PUBLIC + "/api/jobs/{id}"]})
    reader = old_token(hub, mercure={"subscribe": ["*"]})
    sending = Kit(replace(kit.settings, mercure_url=f"{hub.url}/.well-known/mercure", mercure_jwt=publisher))
    try:
        with hub.client(reader) as http, subscription(http, f"topic={PUBLIC}/api/jobs/{{id}}") as source:
            first = serve("tornado", kit=sending, public_url=PUBLIC)
            with first.client() as own:
                own.get("/api/healthz")
            # Updates from now on: those before the first server with a hub are not sent.
            wait_until(lambda: background.call(kit.verbs.store.marked("forwarded")), what="its start")
            job_id = stage.submit()
            told = take(source, 1)
            # What a server has sent without a note that it did, the next one sends again.
            sent = told[0].id.removeprefix("urn:jobkit:")
            wait_until(lambda: background.call(kit.verbs.store.marked("forwarded")) == sent, what="its note")
            first.close()
            stage.start(job_id)
            second = serve("asgi", kit=sending, public_url=PUBLIC)
            with second.client() as own:
                own.get("/api/healthz")
            told += take(source, 1)
            stage.succeed(job_id)
            told += take(source, 1)
            second.close()
    finally:
        sending.close()
        hub.close()  # it ends its subscriptions by its kit
        other.close()

    assert [update.json()["state"] for update in told] == ["queued", "running", "succeeded"]
    assert all(update.id.startswith("urn:jobkit:") for update in told)
