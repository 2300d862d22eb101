import panel as pn
from functions import square

import jobkit

pn.extension()
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
main = pn.Column("Results")
button.on_click(lambda event: main.append(kit.submit(square, 12)))

pn.template.FastListTemplate(title="Squares", sidebar=[button], main=[main]).servable()
