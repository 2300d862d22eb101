import panel as pn
from functions import square

import jobkit

pn.extension()
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
place = pn.Column()


def run(*events):
    place[:] = [kit.submit(square, 12).view()]


button.param.watch(run, "clicks")
pn.Row(button, place).servable()
