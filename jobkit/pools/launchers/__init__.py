"""One module for each engine, with its `Launcher`; see `jobkit.pools.launcher`."""
