import panel as pn
from functions import square

import jobkit

pn.extension()
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
table = jobkit.ui.JobTable(kit, search=f"owner:{pn.state.user or '*'}") if pn.state.user else jobkit.ui.JobTable(kit)
button.on_click(lambda event: kit.submit(square, 12))

pn.Column(button, table).servable()
