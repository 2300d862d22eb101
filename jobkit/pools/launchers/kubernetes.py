"""Units as Jobs of Kubernetes, by its official client."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

import msgspec

from jobkit.pools.launcher import EngineUnavailable, LaunchRefused, Unit, WorkerOrder
from jobkit.pools.launchers.clusters import check_extra, one_line
from jobkit.pools.launchers.kubernetes_objects import (
    UNIT,
    Json,
    KubernetesOptions,
    job_of,
    name_of,
    secret_of,
    selector,
    unit_of,
)

T = TypeVar("T")

#: Seconds for a connection, and for an answer.
_PATIENCE_S = (5, 20)

#: Status codes that mean "try again" rather than "no".
_TOO_MANY, _SERVER_ERROR = 429, 500
_NOT_FOUND, _EXISTS = 404, 409


class KubernetesLauncher:
    """See `jobkit.pools.launcher.Launcher`. The client blocks, so each call runs in a thread."""

    ENGINE: ClassVar[str] = "kubernetes"
    Options: ClassVar[type[msgspec.Struct]] = KubernetesOptions

    def __init__(self, pool: str, options: KubernetesOptions) -> None:
        self._pool, self._options = pool, options
        self._api: _KubernetesApi | None = None

    async def start(self, orders: Sequence[WorkerOrder]) -> list[Unit]:
        def run(api: _KubernetesApi) -> list[Unit]:
            return [unit_of(self._create(api, order), ()) for order in orders]

        return await self._call(run, LaunchRefused)

    async def list(self) -> list[Unit]:
        def run(api: _KubernetesApi) -> list[Unit]:
            pods: dict[str, list[Json]] = defaultdict(list)
            jobs = api.jobs(selector(self._pool))
            for pod in api.pods(selector(self._pool)) if jobs else ():
                pods[pod["metadata"]["labels"][UNIT]].append(pod)
            units = []
            for job in jobs:
                own = pods[job["metadata"]["labels"][UNIT]]
                units.append(unit_of(job, own, () if own else api.events(job["metadata"]["name"])))
            return units

        return await self._call(run, EngineUnavailable)

    async def stop(self, units: Sequence[str], *, now: bool = False) -> None:
        def run(api: _KubernetesApi) -> None:
            for unit in units:
                api.delete_job(name_of(self._pool, unit), "Background" if now else "Foreground")
                for pod in api.pods(f"{selector(self._pool)},{UNIT}={unit}") if now else ():
                    api.delete_pod_now(pod["metadata"]["name"])

        await self._call(run, EngineUnavailable)

    async def close(self) -> None:
        api, self._api = self._api, None
        if api is not None:
            await asyncio.to_thread(api.close)

    def _create(self, api: _KubernetesApi, order: WorkerOrder) -> Json:
        """Store the Job of a unit and its Secret, whose owner must be there first; both or none."""
        job = api.create_job(job_of(self._pool, order, self._options))
        try:
            api.create_secret(secret_of(self._pool, order, job))
        except Exception:
            with suppress(Exception):
                api.delete_job(name_of(self._pool, order.unit), "Background")
            raise
        return job

    async def _call(self, run: Callable[[_KubernetesApi], T], refusal: type[LaunchRefused | EngineUnavailable]) -> T:
        """Run calls of the API in a thread; raise `refusal` if it says no, EngineUnavailable if it does not answer."""
        check_extra("kubernetes", "kubernetes", refusal)
        from kubernetes.client.exceptions import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        try:
            if self._api is None:
                self._api = await asyncio.to_thread(_KubernetesApi, self._options)
            return await asyncio.to_thread(run, self._api)
        except ConfigException as error:
            raise refusal(f"Kubernetes is not set up here: {one_line(error)}") from None
        except ApiException as error:
            is_away = not error.status or error.status == _TOO_MANY or error.status >= _SERVER_ERROR
            raise (EngineUnavailable if is_away else refusal)(f"Kubernetes refused: {_message(error)}") from None
        except (HTTPError, OSError) as error:
            where = self._api.host if self._api is not None else ""
            why = str(getattr(error, "reason", error)).rpartition(": ")[2]  # of urllib3's last attempt
            raise EngineUnavailable(f"Kubernetes {where} does not answer: {one_line(why)}") from None


class _KubernetesApi:
    """The few calls that are needed, without the client's models. Blocks."""

    def __init__(self, options: KubernetesOptions) -> None:
        from kubernetes import client, config

        configuration = client.Configuration()
        configuration.retries = 1
        try:
            config.load_kube_config(options.kubeconfig or None, options.context or None, configuration)
            context = config.list_kube_config_contexts(options.kubeconfig or None)
            named = next((each for each in context[0] if each["name"] == options.context), context[1])
            namespace = named["context"].get("namespace", "")
        except config.ConfigException:
            if options.kubeconfig or options.context:
                raise
            config.load_incluster_config(configuration)  # a Pod manages
            namespace = _namespace_of_the_pod()
        self.host = configuration.host
        namespace = options.namespace or namespace or "default"
        self._client = client.ApiClient(configuration)
        self._batch, self._core = client.BatchV1Api(self._client), client.CoreV1Api(self._client)
        # Answers are read as JSON: the client's models refuse what another version of Kubernetes leaves out.
        self._more = {"namespace": namespace, "_request_timeout": _PATIENCE_S, "_preload_content": False}

    def close(self) -> None:
        self._client.close()

    def jobs(self, labels: str) -> list[Json]:
        return self._items(self._batch.list_namespaced_job, label_selector=labels)

    def pods(self, labels: str) -> list[Json]:
        return self._items(self._core.list_namespaced_pod, label_selector=labels)

    def events(self, job: str) -> list[Json]:
        about = f"involvedObject.kind=Job,involvedObject.name={job}"
        return self._items(self._core.list_namespaced_event, field_selector=about)

    def create_job(self, job: Json) -> Json:
        return self._json(self._batch.create_namespaced_job, body=job)

    def create_secret(self, secret: Json) -> None:
        self._json(self._core.create_namespaced_secret, body=secret)

    def delete_job(self, name: str, policy: str) -> None:
        self._gone(self._batch.delete_namespaced_job, name=name, propagation_policy=policy)

    def delete_pod_now(self, name: str) -> None:
        self._gone(self._core.delete_namespaced_pod, name=name, grace_period_seconds=0)

    def _gone(self, delete: Callable[..., Any], **arguments: Any) -> None:
        from kubernetes.client.exceptions import ApiException

        try:
            self._json(delete, **arguments)
        except ApiException as error:
            if error.status not in (_NOT_FOUND, _EXISTS):  # a conflict: it is being deleted
                raise

    def _items(self, read: Callable[..., Any], **arguments: Any) -> list[Json]:
        items: list[Json] = self._json(read, **arguments).get("items") or []
        return items

    def _json(self, call: Callable[..., Any], **arguments: Any) -> Json:
        answer: Json = msgspec.json.decode(call(**arguments, **self._more).data)
        return answer


def _namespace_of_the_pod() -> str:
    with suppress(OSError), open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
        return file.read().strip()
    return ""


def _message(error: Any) -> str:
    """Return what the API says: `message` of its Status, else the reason of HTTP."""
    with suppress(msgspec.DecodeError, TypeError, KeyError):
        return one_line(msgspec.json.decode(error.body)["message"])
    return one_line(error.reason)
