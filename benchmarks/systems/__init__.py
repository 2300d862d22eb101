"""One program per system: `drive` submits and measures, `work` runs jobs. Those of peers run in environments that have
only the peer: nothing here but `jobkit_*` may import jobkit."""
