"""A Slurm cluster of one node on this machine: munged, slurmctld and slurmd of a test, with all files in one folder."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.support import MARK, free_port, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")

_CONF = """
ClusterName=jobkit
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
KillWait=5
MinJobAge=300
InactiveLimit=0
SlurmctldTimeout=30
GresTypes=gpu,scanner
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=4000 Gres=gpu:2,scanner:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=10
PartitionName=short Nodes={host} MaxTime=5 State=UP DefMemPerCPU=10
PartitionName=closed Nodes={host} State=DOWN DefMemPerCPU=10
"""


def missing() -> str:
    """Return why this machine has no Slurm for tests; "" if it has."""
    if os.geteuid() != 0:
        return "a Slurm cluster of the tests needs root"
    found = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    return f"needs Slurm (Debian: slurm-wlm, munge): {', '.join(found)} is missing" if found else ""


class SlurmCluster:
    """Starts the daemons; ends each by its own process id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        host = socket.gethostname().partition(".")[0]
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir(parents=True)
        (folder / "munge").chmod(0o755)
        key = folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        self.conf = folder / "slurm.conf"
        self.ports = [free_port(), free_port()]
        self.conf.write_text(_CONF.format(host=host, folder=folder, ports=self.ports))
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\nName=scanner Count=1\n")
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        own = {name: value for name, value in os.environ.items() if name != MARK}  # a test may restart a daemon
        self.env = {**own, "SLURM_CONF": str(self.conf), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        munge = self.folder / "munge"
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.run("munged", "--foreground", "--force", *(f"--{name}={munge / file}" for name, file in files.items()))
        wait_until((munge / "socket").exists, what="munged")
        self.run("slurmctld", "-D")
        self.run("slurmd", "-D")
        self.ready()

    def run(self, program: str, *options: str) -> None:
        with (self.folder / f"{program}.out").open("ab") as output:
            self.running[program] = subprocess.Popen([program, *options], env=self.env, stdout=output, stderr=output)

    def ready(self) -> None:
        wait_until(
            lambda: self.ask("sinfo", "-h", "-o", "%T") in ("idle", "mixed", "allocated"), timeout_s=60, what="Slurm"
        )

    def ask(self, *argv: str) -> str:
        return subprocess.run(argv, env=self.env, capture_output=True, text=True).stdout.split("\n")[0].strip()

    def end(self, program: str) -> None:
        process = self.running.pop(program)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        self.ask("scancel", "--user=root")
        end = time.monotonic() + 20
        while self.ask("squeue", "-h") and time.monotonic() < end:
            time.sleep(0.1)  # between two polls
        for program in list(self.running)[::-1]:
            self.end(program)
