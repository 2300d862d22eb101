import panel as pn
import param
from functions import square

import jobkit

pn.extension()


class App(pn.viewable.Viewer):
    number = param.Integer(default=12, bounds=(0, 100))
    run = param.Event(label="Run")
    job = param.Parameter(precedence=-1)

    def __init__(self, **params):
        super().__init__(**params)
        self.kit = jobkit.connect()

    @param.depends("run", watch=True)
    def _submit(self):
        self.job = self.kit.submit(square, self.number)

    @param.depends("job")
    def card(self):
        return "Nothing yet" if self.job is None else self.job.view()

    def __panel__(self):
        return pn.Row(pn.Param(self.param, parameters=["number", "run"]), self.card)


App().servable()
