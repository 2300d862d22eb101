"""A Ray cluster of this machine with two CPUs: prints its address, and ends with its standard input."""

from __future__ import annotations

import sys

import ray

if __name__ == "__main__":
    cluster = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    print(cluster.address_info["gcs_address"], flush=True)
    sys.stdin.read()
    ray.shutdown()
