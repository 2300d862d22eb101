"""Units as Jobs of Kubernetes, by its official client.

`KubernetesLauncher` calls the API; below it are the objects as JSON: the Job and the Secret of a unit, and the state of
a unit from its Job and Pods.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

import msgspec

from jobkit.features.pools.launcher import (
    EngineUnavailable,
    Launcher,
    LaunchRefused,
    Unit,
    WorkerOrder,
    worker_command,
    worker_environment,
)
from jobkit.features.pools.launchers.support import check_extra, last_line, one_line
from jobkit.features.pools.launchers.unit_process import command
from jobkit.settings import Settings

T = TypeVar("T")

Json = dict[str, Any]

POOL, UNIT = "jobkit/pool", "jobkit/unit"

#: Seconds for a connection, and for an answer.
_PATIENCE_S = (5, 20)

#: Status codes that mean "try again" rather than "no".
_TOO_MANY, _SERVER_ERROR = 429, 500
_NOT_FOUND, _EXISTS = 404, 409

#: Seconds between the worker's own deadline for its running jobs and the end of its Pod by force.
_SPARE_S = 30
#: Seconds for which Kubernetes keeps a Job that has ended.
_KEPT_S = 600
#: Amounts of a pool's `resources` that Kubernetes knows under other names; `mem` is in GB.
_CPU, _MEMORY, _GPU = "cpu", "mem", "gpu"


class KubernetesOptions(msgspec.Struct, frozen=True):
    """Options of a pool on Kubernetes.

    Attributes:
        image: container image with jobkit and what jobs need. namespace: "" for that of the context.
        service_account: of the Pods. context, kubeconfig: "" for the current one, or that of the Pod that manages.
        gpu_resource: name of the resource of GPUs.
        pod, container: further fields of the Pod's `spec` and of its container, as in a manifest (or their JSON):
            {"nodeSelector": {"zone": "a"}}. Mappings are merged, other values replaced.
    """

    image: str
    namespace: str = ""
    service_account: str = ""
    context: str = ""
    kubeconfig: str = ""
    gpu_resource: str = "nvidia.com/gpu"
    pod: Mapping[str, Any] | str = {}
    container: Mapping[str, Any] | str = {}

    def __post_init__(self) -> None:
        if not self.image or any(each.isspace() for each in self.image):
            raise ValueError(
                f'image must be the name of a container image, like "ghcr.io/lab/work:1", not {self.image!r}'
            )
        for name in ("pod", "container"):
            if not isinstance(self.fields(name), Mapping):
                raise ValueError(f"{name} must be fields of a manifest, or their JSON, not {getattr(self, name)!r}")

    def fields(self, name: str) -> Any:
        """Return `pod` or `container`, decoded; None if it is neither a mapping nor its JSON."""
        given = getattr(self, name)
        if not isinstance(given, str):
            return given
        try:
            found = msgspec.json.decode(given or "{}")
        except msgspec.DecodeError:
            return None
        return found if isinstance(found, dict) else None


class KubernetesLauncher(Launcher):
    """See `jobkit.features.pools.launcher.Launcher`. The client blocks, so each call runs in a thread."""

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


# -- objects -----------------------------------------------------------------------------------------------------------


def name_of(pool: str, unit: str) -> str:
    """Return the name of a unit's objects, different for each namespace of jobkit: at most 63 characters."""
    return f"{unit[:50]}-{hashlib.sha256(pool.encode()).hexdigest()[:8]}"


def selector(pool: str) -> str:
    """Return the label selector of a pool's objects."""
    return f"{POOL}={pool}"


def job_of(pool: str, order: WorkerOrder, options: KubernetesOptions) -> Json:
    """Return the Job of a unit: one Pod, one container, no repetition. What is secret is in `secret_of`."""
    drain_s = int(float(order.environment.get("JOBKIT_DRAIN") or Settings().drain)) + _SPARE_S
    amounts = _amounts(order, options)
    container = {
        "name": "worker",
        "image": options.image,
        "command": command(order.setup, order.python or "python", worker_command(order)),
        "envFrom": [{"secretRef": {"name": name_of(pool, order.unit)}}],
        "resources": {"requests": amounts, "limits": amounts},
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the last output explains a failure
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": drain_s,
        "shareProcessNamespace": True,  # a worker with the process id 1 would ignore signals while it starts
        **({"serviceAccountName": options.service_account} if options.service_account else {}),
        "containers": [_merged(container, options.fields("container"))],
    }
    spec = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": _KEPT_S,
        "template": {"metadata": {"labels": _labels(pool, order)}, "spec": _merged(pod, options.fields("pod"))},
        **({"activeDeadlineSeconds": int(order.walltime_s) + drain_s} if order.walltime_s else {}),
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(pool, order), "spec": spec}


def secret_of(pool: str, order: WorkerOrder, job: Json) -> Json:
    """Return the Secret with the environment of a unit, which Kubernetes deletes with the stored Job."""
    name = name_of(pool, order.unit)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {**_metadata(pool, order), "ownerReferences": [owner]},
        "stringData": worker_environment(order, f"kubernetes {name}"),
    }


def unit_of(job: Json, pods: Iterable[Json], events: Iterable[Json] = ()) -> Unit:
    """Return the state of a unit.

    Args:
        pods: those of the Job, if there are any. events: of the Job, if it has no Pod.
    """
    unit, name = job["metadata"]["labels"][UNIT], job["metadata"]["name"]
    pod = next(iter(sorted(pods, key=lambda each: each["metadata"]["creationTimestamp"] or "", reverse=True)), None)
    host = (pod or {}).get("spec", {}).get("nodeName") or ""
    conditions = {
        each["type"]: each for each in job.get("status", {}).get("conditions") or () if each["status"] == "True"
    }
    phase = (pod or {}).get("status", {}).get("phase", "")
    if "Complete" in conditions or phase == "Succeeded":
        return Unit(unit, name, "ended", "Complete", host=host)
    if "Failed" in conditions or phase == "Failed":
        return Unit(unit, name, "ended", "Failed", host=host, error=_why_failed(pod, conditions.get("Failed", {})))
    if phase == "Running":
        is_ending = "deletionTimestamp" in job["metadata"]
        return Unit(
            unit, name, "running", "ends when its jobs have ended" if is_ending else f"on node {host}", host=host
        )
    return Unit(unit, name, "pending", _why_pending(pod, conditions, events), host=host)


def _why_pending(pod: Json | None, conditions: Mapping[str, Json], events: Iterable[Json]) -> str:
    """Return what Kubernetes waits for, in its words: "Unschedulable: 0/3 nodes are available"."""
    if pod is None:
        said = [one_line(each["message"]) for each in events if each.get("type") == "Warning" and each.get("message")]
        return said[-1] if said else "Suspended" if "Suspended" in conditions else "waits for its Pod"
    for each in pod["status"].get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return _reason_and_message(each)
    for each in pod["status"].get("containerStatuses") or ():
        if waiting := (each.get("state") or {}).get("waiting"):
            return _reason_and_message(waiting)
    return "Pending"


def _why_failed(pod: Json | None, condition: Json) -> str:
    """Return why a unit has failed: its container's exit, the eviction of its Pod, or the failure of its Job."""
    status = (pod or {}).get("status", {})
    for each in status.get("containerStatuses") or ():
        if ended := (each.get("state") or {}).get("terminated"):
            said = last_line(ended.get("message") or "")
            why = "" if ended.get("reason") in (None, "Error") else f" ({ended['reason']})"
            return f"worker ended with status {ended['exitCode']}{why}" + (f": {said}" if said else "")
    return (
        _reason_and_message(status) if status.get("reason") else _reason_and_message(condition) or "its Pod has failed"
    )


def _reason_and_message(said: Json) -> str:
    return ": ".join(one_line(said[name]) for name in ("reason", "message") if said.get(name))


def _amounts(order: WorkerOrder, options: KubernetesOptions) -> dict[str, str]:
    """Return requests, which are the limits: a CPU for each slot unless `resources` has `cpu`; GB of memory; GPUs."""
    found = {"cpu": f"{order.resources.get(_CPU, order.slots):g}"}
    if _MEMORY in order.resources:
        found["memory"] = f"{int(order.resources[_MEMORY] * 1000)}M"
    if _GPU in order.resources:
        found[options.gpu_resource] = f"{order.resources[_GPU]:g}"
    return found


def _labels(pool: str, order: WorkerOrder) -> dict[str, str]:
    return {"app.kubernetes.io/name": "jobkit-worker", POOL: pool, UNIT: order.unit}


def _metadata(pool: str, order: WorkerOrder) -> Json:
    return {"name": name_of(pool, order.unit), "labels": _labels(pool, order)}


def _merged(ours: Json, theirs: Mapping[str, Any]) -> Json:
    """Return both; mappings are merged on every level."""
    both = dict(ours)
    for name, value in theirs.items():
        is_deep = isinstance(value, Mapping) and isinstance(both.get(name), Mapping)
        both[name] = _merged(both[name], value) if is_deep else value
    return both
