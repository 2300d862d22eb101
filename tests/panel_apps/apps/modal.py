import panel as pn
from functions import square

import jobkit

pn.extension("modal")
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
modal = pn.Modal("The job")


def run(event):
    modal.append(kit.submit(square, 12).view())
    modal.show()


button.on_click(run)
pn.Column(button, modal).servable()
