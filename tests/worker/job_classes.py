"""Jobs as classes, apart from the others: they load param, which workers do without."""

from __future__ import annotations

import param

import jobkit


class Counting(jobkit.Task):
    """Counts from checkpoint to checkpoint. Its state are parameters."""

    steps = param.Integer(6)
    step = param.Integer(0)
    seen = param.List([])
    state = ("step", "seen")

    def run(self) -> list[int]:
        for step in range(self.step, self.steps):
            if step == 3 and jobkit.current().attempt == 1:
                raise RuntimeError("of this attempt")
            self.seen = [*self.seen, step]
            self.step = step + 1
            jobkit.checkpoint(self)
        return self.seen
