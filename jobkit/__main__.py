"""`python -m jobkit`: the same as the command `jobkit`."""

from jobkit.cli import main

if __name__ == "__main__":
    main(prog_name="jobkit")
