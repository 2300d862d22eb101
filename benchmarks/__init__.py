"""Benchmarks of jobkit and its peers, side by side: `python -m benchmarks` (or `make bench`).

Each module is one benchmark with a `measure(place)` that returns rows of the table; `systems/` has programs that do the
same with jobkit and with each peer. Ratios within one run are reliable, absolute times only on a quiet machine.
"""
