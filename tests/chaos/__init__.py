"""Chaos: processes and connections die or freeze at random; afterwards every promise is checked.

`python -m tests.chaos --seconds 60 --seed 1`, or `make chaos SECONDS=600 SEED=1`. What really happened is read from a
file that the jobs themselves append to (`record`), not from jobkit.
"""
