import panel as pn
from functions import bars

import jobkit

pn.extension("plotly", reconnect=True)
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
figure = pn.pane.Plotly(height=200, width=300)


async def run(event):
    figure.object = await kit.submit(bars, 5)


button.on_click(run)
pn.Column(button, figure).servable()
