"""A stand-in for Kubernetes: its REST API as far as the launcher needs it, and Pods that are processes of this machine.

It follows what the documentation of the API says; no real cluster has seen these tests.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]


class FakeKubernetes:
    """A cluster with one node, on which `room` Pods run at once.

    Attributes:
        requests: method, path and body of all requests. refuses: message with which creations are refused, by kind.
        images: why an image cannot be pulled, by its name.
    """

    def __init__(self, folder: Path, room: int = 2) -> None:
        self.room = room
        self.objects: dict[str, dict[str, Json]] = {"jobs": {}, "pods": {}, "secrets": {}, "events": {}}
        self.requests: list[tuple[str, str, Json]] = []
        self.refuses: dict[str, str] = {}
        self.images: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig(self.url)))

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        self._server.shutdown()
        self._server.server_close()
        for thread in [self._thread, *self._threads]:
            thread.join()

    def answer(self, method: str, url: str, body: Json) -> tuple[int, Json]:
        parts, query = urlsplit(url), parse_qs(urlsplit(url).query)
        *_, namespace, kind = parts.path.split("/") if method in ("GET", "POST") else parts.path.split("/")[:-1]
        with self._lock:
            self.requests.append((method, url, body))
            found = self.objects[kind]
            if method == "GET":
                wanted = dict(part.split("=") for part in query.get("labelSelector", [""])[0].split(",") if part)
                items = [each for each in found.values() if wanted.items() <= each["metadata"]["labels"].items()]
                return 200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}
            if method == "POST":
                if kind in self.refuses:
                    return self._failure(403, "Forbidden", self.refuses[kind])
                body["metadata"] |= {"uid": secrets.token_hex(8), "creationTimestamp": "2026-11-27T10:00:00Z"}
                body["metadata"]["namespace"] = namespace
                found[body["metadata"]["name"]] = body
                if kind == "jobs":
                    self._make_pod(body)
                self._schedule()
                return 201, body
            name = parts.path.split("/")[-1]
            if name not in found:
                return self._failure(404, "NotFound", f'{kind} "{name}" not found')
            is_now = query.get("gracePeriodSeconds") == ["0"] or body.get("gracePeriodSeconds") == 0
            found[name]["metadata"]["deletionTimestamp"] = "2026-11-27T11:00:00Z"
            self._end_pods([name] if kind == "pods" else self._pods_of(name), is_now)
            self._collect()
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _failure(self, code: int, reason: str, message: str) -> tuple[int, Json]:
        return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}

    def _pods_of(self, job: str) -> list[str]:
        return [name for name, pod in self.objects["pods"].items() if pod["metadata"]["labels"]["job-name"] == job]

    def _make_pod(self, job: Json) -> None:
        template, name = job["spec"]["template"], job["metadata"]["name"]
        self.objects["pods"][f"{name}-abcde"] = {
            "metadata": {
                "name": f"{name}-abcde",
                "creationTimestamp": "2026-11-27T10:00:01Z",
                "labels": {**template["metadata"]["labels"], "job-name": name},
            },
            "spec": json.loads(json.dumps(template["spec"])),
            "status": {"phase": "Pending"},
        }

    def _schedule(self) -> None:
        """Start pending Pods for which there is room and a Secret."""
        for name, pod in self.objects["pods"].items():
            container, status = pod["spec"]["containers"][0], pod["status"]
            secret = self.objects["secrets"].get(container["envFrom"][0]["secretRef"]["name"])
            if status["phase"] != "Pending" or secret is None:
                continue
            if sum(process.poll() is None for process in self._processes.values()) >= self.room:
                message = "0/1 nodes are available: 1 Insufficient cpu."
                status["conditions"] = [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
                ]
            elif why := self.images.get(container["image"]):
                waiting = {"reason": "ImagePullBackOff", "message": why}
                status["containerStatuses"] = [_container_status({"waiting": waiting})]
            else:
                pod["spec"]["nodeName"] = "node-1"
                pod["status"] = {"phase": "Running", "containerStatuses": [_container_status({"running": {}})]}
                self._run(name, container, secret["stringData"])

    def _run(self, name: str, container: Json, environment: dict[str, str]) -> None:
        command = [sys.executable if part == "python" else part for part in container["command"]]
        output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=output, text=True, start_new_session=True
        )
        self._processes[name] = process

        def wait() -> None:
            process.wait()
            with output, self._lock:
                output.seek(0)
                self._pod_ended(name, process.returncode, output.read())

        thread = threading.Thread(target=wait)
        self._threads.append(thread)
        thread.start()

    def _pod_ended(self, name: str, code: int, output: str) -> None:
        ended = {"exitCode": code if code >= 0 else 128 - code, "reason": "Error" if code else "Completed"}
        if code:
            ended["message"] = output[-2000:]
        pod = self.objects["pods"].get(name)
        if pod is not None:
            phase = "Failed" if code else "Succeeded"
            pod["status"] = {"phase": phase, "containerStatuses": [_container_status({"terminated": ended})]}
            job = self.objects["jobs"].get(pod["metadata"]["labels"]["job-name"])
            if job is not None:
                kind = "Failed" if code else "Complete"
                job["status"] = {"conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]}
        self._collect()
        self._schedule()

    def _end_pods(self, names: list[str], is_now: bool) -> None:
        for name in names:
            pod, process = self.objects["pods"][name], self._processes.get(name)
            pod["metadata"]["deletionTimestamp"] = "2026-11-27T11:00:00Z"
            if process is not None and process.poll() is None:
                if is_now:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.terminate()

    def _collect(self) -> None:
        """Remove deleted Pods whose process has ended, then deleted Jobs without Pods, then Secrets of no Job."""
        pods, jobs, kept = self.objects["pods"], self.objects["jobs"], self.objects["secrets"]
        for name in list(pods):
            process = self._processes.get(name)
            if pods[name]["metadata"].get("deletionTimestamp") and (process is None or process.poll() is not None):
                del pods[name]
        for name in list(jobs):
            if jobs[name]["metadata"].get("deletionTimestamp") and not self._pods_of(name):
                del jobs[name]
        for name in list(kept):
            if all(owner["name"] not in jobs for owner in kept[name]["metadata"]["ownerReferences"]):
                del kept[name]


def _container_status(state: Json) -> Json:
    return {"name": "worker", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}


def kubeconfig(url: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "lab"}}],
        "clusters": [{"name": "fake", "cluster": {"server": url}}],
        "users": [{"name": "fake", "user": {"token": "fake"}}],
    }


def _handler(cluster: FakeKubernetes) -> type[BaseHTTPRequestHandler]:
    class FakeKubernetesHandler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            code, answer = cluster.answer(self.command, self.path, body or {})
            text = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    return FakeKubernetesHandler
