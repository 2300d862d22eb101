"""Workers with different signing keys: `jobkit doctor` and the workers' log name them."""

from __future__ import annotations

import subprocess
import sys

from jobkit.codec import Codec
from tests.support import environment
from tests.worker.conftest import Bench


def doctor(bench: Bench, **names: str) -> str:
    env = environment(**(bench.variables | names))
    return subprocess.run([sys.executable, "-m", "jobkit", "doctor"], env=env, capture_output=True, text=True).stdout


def test_workers_with_another_key_are_named(own_bench: Bench) -> None:
    own_bench.worker()
    assert "fail" not in doctor(own_bench)
    (right,) = own_bench.kit.workers()
    odd = own_bench.worker(JOBKIT_SECRET="another")
    (wrong,) = (worker for worker in own_bench.kit.workers() if worker.id != right.id)

    problem = "signs with another key than this machine"
    fix = "set the same JOBKIT_SECRET there and here, and restart the worker"
    assert f"fail  secret       worker {wrong.id} {problem} → {fix}" in doctor(own_bench)
    assert f"fail  secret       worker {right.id} {problem}" in doctor(own_bench, JOBKIT_SECRET="another")
    assert f"worker {right.id} signs with a key, and this machine has none" in doctor(own_bench, JOBKIT_SECRET="")
    assert f"worker {right.id} {problem}: set the same JOBKIT_SECRET for both" in own_bench.said()

    odd.terminate()
    odd.wait()
    said = doctor(own_bench)
    assert "fail" not in said
    assert "warn  secret       another key than that of this machine signed the definitions of the tasks " in said


def test_keys_of_a_change_in_steps_fit_each_other() -> None:
    for one, other in [("old", "old,new"), ("old,new", "new,old"), ("new,old", "new"), ("", "")]:
        assert not Codec.from_secret(one).key_problem(Codec.from_secret(other).key_ids)
    for one, other in [("old", "new"), ("old", "new,old"), ("new,old", "old"), ("", "new"), ("new", "")]:
        assert Codec.from_secret(one).key_problem(Codec.from_secret(other).key_ids)
