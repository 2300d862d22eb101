import panel as pn
from functions import line

import jobkit

pn.extension(reconnect=True)
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
figure = pn.pane.HoloViews(height=200, width=300)


async def run(event):
    figure.object = await kit.submit(line, 5)


button.on_click(run)
pn.Column(button, figure).servable()
