"""Environment with which workers on engines reach the store."""

from __future__ import annotations

from dataclasses import fields

from jobkit.pools.launcher import LaunchRefused
from jobkit.settings import Settings

#: Settings that workers of pools inherit from the autoscaler.
_PASSED_ON = (
    "url", "secret", "namespace", "lease", "heartbeat", "cancel_grace", "drain", "result_ttl", "max_losses", "keep",
    "results", "archive", "archive_files", "start_method", "locals", "made_by", "made_env",
)  # fmt: skip

#: Engines whose workers are always on other machines.
_REMOTE = ("ssh", "slurm", "kubernetes")

#: Engines on this machine; "" is the autoscaler itself.
_HERE = ("", "local")


def worker_settings(settings: Settings, engine: str) -> dict[str, str]:
    """Return the variables with which a worker on an engine reaches the store; secret.

    A Redis on the network is reached by its URL, and a joined place by the credentials of this machine. The server of a
    home is reached by its socket, on this machine only.

    Raises:
        LaunchRefused: the engine's machines cannot reach it.
    """
    if settings.url.startswith("unix:") and engine in _REMOTE:
        raise LaunchRefused(
            f"workers on {engine} cannot reach the jobs, whose server answers on this machine only: "
            "`jobkit share` makes it reachable"
        )
    defaults = {field.name: field.default for field in fields(Settings)}
    values = {name: getattr(settings, name) for name in _PASSED_ON}
    if engine not in _HERE and (member := settings.membership):  # other machines have not joined under that name
        values["url"] = member.inline_url
    return {
        f"JOBKIT_{name.upper()}": f"{value}"
        for name, value in values.items()
        if value != defaults[name] or name in ("url", "namespace")
    }
