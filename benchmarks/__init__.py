"""What jobkit costs, measured beside its peers: `python -m benchmarks` (or `make bench`).

Each module is one benchmark and has a `measure(place)` that returns rows of the table; `systems/` are the programs that
do the same with jobkit and with each peer. Ratios within one run are to be trusted, absolute times only on a quiet
machine.
"""
