"""Facts of this process that may explain a result: git, packages, machine and program."""
