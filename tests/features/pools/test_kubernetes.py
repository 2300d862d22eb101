"""Pools on Kubernetes: the common suite with a stand-in for the cluster, and the objects that are stored in it."""

from __future__ import annotations

import inspect
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from jobkit.features.pools.launcher import (
    EngineUnavailable,
    Launcher,
    LaunchRefused,
    Unit,
    WorkerOrder,
    checked_options,
)
from jobkit.features.pools.launchers import kubernetes
from jobkit.features.pools.launchers.kubernetes import (
    KubernetesLauncher,
    KubernetesOptions,
    job_of,
    name_of,
    secret_of,
    unit_of,
)
from jobkit.model import InvalidParams
from tests.docs.reading import blocks
from tests.features.pools.fake_kubernetes import FakeKubernetes, kubeconfig
from tests.features.pools.suite import EngineBench, LauncherSuite, listed, state
from tests.support import until


class KubernetesBench(EngineBench):
    room = 2

    def __init__(self, cluster: FakeKubernetes, folder: Path) -> None:
        super().__init__()
        self.cluster, self._folder = cluster, folder

    def make(self, pool: str, image: str = "lab/work:1") -> Launcher:
        return KubernetesLauncher(pool, KubernetesOptions(image, kubeconfig=str(self.cluster.kubeconfig)))

    def make_away(self) -> Launcher:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            file = self._folder / "away"
            file.write_text(json.dumps(kubeconfig(f"http://127.0.0.1:{free.getsockname()[1]}")))
        return KubernetesLauncher(self.pool, KubernetesOptions("lab/work:1", kubeconfig=str(file)))

    def make_refusing(self) -> Launcher:
        self.cluster.refuses["jobs"] = 'jobs.batch is forbidden: User "ada" cannot create resource "jobs"'
        return self.make(self.pool)

    async def visible(self) -> str:
        return json.dumps([self.cluster.objects["jobs"], self.cluster.objects["pods"]])


class TestKubernetes(LauncherSuite):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[EngineBench]:
        pytest.importorskip("kubernetes", reason="needs the extra kubernetes")
        cluster = FakeKubernetes(tmp_path)
        yield KubernetesBench(cluster, tmp_path)
        cluster.close()

    async def test_the_secret_of_a_unit_is_deleted_with_its_job(self, bench: KubernetesBench) -> None:
        launcher, order = bench.launcher(), bench.order()
        await launcher.start([order])
        assert bench.cluster.objects["secrets"].keys() == bench.cluster.objects["jobs"].keys()

        await launcher.stop([order.unit])

        await state(launcher, [order.unit], "ended")
        await until(lambda: not bench.cluster.objects["jobs"] and not bench.cluster.objects["secrets"], "nothing left")

    async def test_without_the_right_to_make_secrets_nothing_is_left(self, bench: KubernetesBench) -> None:
        bench.cluster.refuses["secrets"] = 'secrets is forbidden: User "ada" cannot create resource "secrets"'
        launcher = bench.launcher()

        with pytest.raises(LaunchRefused, match='Kubernetes refused: secrets is forbidden: User "ada" cannot create'):
            await launcher.start([bench.order()])

        assert await launcher.list() == []

    async def test_an_image_that_cannot_be_pulled_is_the_reason_for_waiting(self, bench: KubernetesBench) -> None:
        bench.cluster.images["lab/typo:1"] = 'Back-off pulling image "lab/typo:1"'
        launcher, order = bench.make(bench.pool, "lab/typo:1"), bench.order()
        await launcher.start([order])

        assert (await listed(launcher))[order.unit].reason == 'ImagePullBackOff: Back-off pulling image "lab/typo:1"'

        await launcher.stop([order.unit])
        await state(launcher, [order.unit], "ended")
        await launcher.close()

    async def test_an_api_server_that_is_away_is_named(self, bench: KubernetesBench) -> None:
        with pytest.raises(EngineUnavailable, match=r"^Kubernetes http://127.0.0.1:\d+ does not answer: .*refused$"):
            await bench.make_away().list()

    async def test_the_namespace_is_that_of_the_context(self, bench: KubernetesBench) -> None:
        await bench.launcher().list()

        assert [url.split("?")[0] for _, url, _ in bench.cluster.requests] == ["/apis/batch/v1/namespaces/lab/jobs"]


async def test_without_a_configuration_a_sentence_says_so(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes", reason="needs the extra kubernetes")
    launcher = KubernetesLauncher("jk-1-gpu", KubernetesOptions("lab/work:1", kubeconfig=str(tmp_path / "missing")))

    with pytest.raises(LaunchRefused, match="^Kubernetes is not set up here: Invalid kube-config file"):
        await launcher.start([ORDER])


ORDER = WorkerOrder(
    pool="gpu",
    unit="gpu-3f2a9c",
    queues=("gpu", "default"),
    slots=2,
    resources={"gpu": 1, "mem": 1.5},
    walltime_s=3600,
    environment={"JOBKIT_SECRET": "hidden", "JOBKIT_DRAIN": "120"},
)
POOL = "jk-3f2a9c1b-gpu"


def test_the_job_of_a_unit_has_its_resources_and_time_to_drain() -> None:
    options = KubernetesOptions("lab/work:1", service_account="worker")

    job = job_of(POOL, ORDER, options)

    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["command"][:4] == ["python", "-m", "jobkit", "worker"]
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "1500M", "nvidia.com/gpu": "1"}
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert spec["terminationGracePeriodSeconds"] == 150
    assert spec["serviceAccountName"] == "worker"
    assert spec["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 3600 + 150
    assert "hidden" not in str(job)


def test_the_secret_belongs_to_the_stored_job() -> None:
    secret = secret_of(POOL, ORDER, {"metadata": {"uid": "17"}})

    assert secret["stringData"]["JOBKIT_SECRET"] == "hidden"
    assert secret["stringData"]["JOBKIT_ENGINE"] == f"kubernetes {name_of(POOL, ORDER.unit)}"
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Job", "17")


def test_fields_of_the_user_are_merged_into_pod_and_container() -> None:
    options = KubernetesOptions(
        "lab/work:1",
        pod='{"nodeSelector": {"zone": "a"}, "shareProcessNamespace": false}',
        container={"resources": {"limits": {"ephemeral-storage": "10G"}}},
    )

    spec = job_of(POOL, ORDER, options)["spec"]["template"]["spec"]

    assert spec["nodeSelector"] == {"zone": "a"}
    assert spec["shareProcessNamespace"] is False
    limits = spec["containers"][0]["resources"]["limits"]
    assert limits["ephemeral-storage"] == "10G"
    assert limits["cpu"] == "2"


def test_names_differ_between_namespaces_and_are_short_enough() -> None:
    assert name_of("jk-1-gpu", "gpu-3f2a9c") != name_of("jk-2-gpu", "gpu-3f2a9c")
    assert len(name_of(POOL, "x" * 70)) <= 63


def pod(**status: object) -> dict[str, object]:
    return {"metadata": {"creationTimestamp": "1"}, "spec": {"nodeName": "node-1"}, "status": status}


def stopped(**ended: object) -> dict[str, object]:
    return pod(phase="Failed", containerStatuses=[{"state": {"terminated": ended}}])


FAILED = {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "was too long"}]}


@pytest.mark.parametrize(
    ("status", "pods", "events", "expected"),
    [
        ({}, [], [], ("pending", "waits for its Pod", "")),
        ({}, [], [{"type": "Warning", "message": "exceeded quota: small"}], ("pending", "exceeded quota: small", "")),
        ({}, [pod(phase="Pending")], [], ("pending", "Pending", "")),
        ({}, [pod(phase="Running")], [], ("running", "on node node-1", "")),
        ({}, [pod(phase="Succeeded")], [], ("ended", "Complete", "")),
        (FAILED, [], [], ("ended", "Failed", "DeadlineExceeded: was too long")),
        (
            {},
            [stopped(exitCode=137, reason="OOMKilled")],
            [],
            ("ended", "Failed", "worker ended with status 137 (OOMKilled)"),
        ),
        (
            {},
            [stopped(exitCode=1, reason="Error", message="...\nNo module named jobkit\n")],
            [],
            ("ended", "Failed", "worker ended with status 1: No module named jobkit"),
        ),
        (
            FAILED,
            [pod(phase="Failed", reason="Evicted", message="The node was low on memory.")],
            [],
            ("ended", "Failed", "Evicted: The node was low on memory."),
        ),
    ],
)
def test_a_unit_has_the_words_of_kubernetes(
    status: dict[str, object], pods: list[dict[str, object]], events: list[dict[str, object]], expected: tuple[str, ...]
) -> None:
    job = {**job_of(POOL, ORDER, KubernetesOptions("lab/work:1")), "status": status}

    unit: Unit = unit_of(job, pods, events)

    assert (unit.state, unit.reason, unit.error) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "a pool on kubernetes needs the option image"),
        ({"image": "two words"}, "image must be the name of a container image"),
        ({"image": "lab/work:1", "pod": "{"}, "pod must be fields of a manifest, or their JSON, not '{'"),
        ({"image": "lab/work:1", "container": "[]"}, "container must be fields of a manifest, or their JSON"),
        (
            {"image": "lab/work:1", "cpu": 1},
            "cpu is not an option of pools on kubernetes; allowed are image, namespace",
        ),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParams, match=message):
        checked_options("kubernetes", given)


def test_the_role_of_the_page_has_the_rights_that_are_used_and_no_more() -> None:
    used = set(re.findall(r"\.(create|list|delete|read|patch|replace)_namespaced_(\w+)", inspect.getsource(kubernetes)))
    rules = yaml.safe_load(blocks("docs/how-to/kubernetes.md", "yaml")[0])["rules"]

    given = {(verb, each.removesuffix("s")) for rule in rules for each in rule["resources"] for verb in rule["verbs"]}
    assert given == used
