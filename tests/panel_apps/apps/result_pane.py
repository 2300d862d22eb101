import panel as pn
from functions import curve

import jobkit

pn.extension(reconnect=True)
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
figure = pn.pane.Matplotlib(width=300)
done = pn.pane.Markdown("Nothing yet")


async def run(event):
    figure.object = await kit.submit(curve, 5)
    done.object = "Drawn: 144"


button.on_click(run)
pn.Column(button, figure, done).servable()
