import panel as pn
from functions import square

import jobkit

pn.extension()
kit = pn.state.as_cached("kit", jobkit.connect)
jobs = pn.state.cache.setdefault("jobs", [])
button = pn.widgets.Button(name="Run", button_type="primary")
place = pn.Column(*(job.view() for job in jobs))


def run(event):
    jobs.append(kit.submit(square, 12))
    place.append(jobs[-1].view())


button.on_click(run)
pn.Column(button, place).servable()
