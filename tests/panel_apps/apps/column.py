import panel as pn
from functions import square

import jobkit

pn.extension()
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
jobs = pn.Column("Jobs")


def run(event):
    jobs.append(pn.Column(kit.submit(square, 12)))


button.on_click(run)
pn.Column(button, jobs).servable()
