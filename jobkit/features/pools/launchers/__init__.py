"""One module for each engine, with its `Launcher`; see `jobkit.features.pools.launcher`."""
