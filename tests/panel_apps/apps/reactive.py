import panel as pn
from functions import square

import jobkit

pn.extension()
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
clicks = button.param.clicks.rx()
card = clicks.rx.pipe(lambda n: kit.submit(square, 12).view() if n else pn.pane.Markdown("Nothing yet"))

pn.Column(button, card).servable()
