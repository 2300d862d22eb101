import panel as pn
from functions import square

import jobkit

pn.extension()
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
place = pn.Column("Nothing yet")
tabs = pn.Tabs(("Form", button), ("Result", place))


def run(event):
    place[:] = [kit.submit(square, 12).view()]
    tabs.active = 1


button.on_click(run)
tabs.servable()
