import panel as pn
from functions import square

import jobkit

pn.extension(reconnect=True)
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")


def run(clicks):
    return kit.submit(square, 12) if clicks else "Nothing yet"


pn.Column(button, pn.bind(run, button)).servable()
