"""Chaos: everything dies, freezes or is cut off at random, and every promise is checked afterwards.

`python -m tests.chaos --seconds 60 --seed 1`, or `make chaos SECONDS=600 SEED=1`. What really happened is read from a
file to which the jobs themselves append (`record`), not from jobkit.
"""
