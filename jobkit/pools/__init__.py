"""Pools: workers that jobkit starts on existing engines (ssh, Slurm, Dask, Ray, Kubernetes), as many as jobs need."""
