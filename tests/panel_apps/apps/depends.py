import panel as pn
from functions import square

import jobkit

pn.extension()
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")


@pn.depends(button.param.clicks)
def shown(clicks):
    if not clicks:
        return "Nothing yet"
    return kit.submit(square, 12).view()


pn.Column(button, shown).servable()
