import panel as pn
from functions import work

import jobkit

pn.extension(reconnect=True)
kit = jobkit.connect()
button = pn.widgets.Button(name="Run", button_type="primary")
shown = pn.pane.Markdown("Nothing yet")


def double(x):
    work()
    return 2 * x


@jobkit.task
def doubled_twice(x: int) -> int:
    """Call a function of this file."""
    return double(double(x))


async def run(event):
    jobs = [kit.submit(double, 36), kit.submit(lambda x: double(x), 36), doubled_twice.submit(18)]
    results = [await job for job in jobs] + await kit.map(double, [36])
    shown.object = str(sum(results) // 2)


button.on_click(run)
pn.Column(button, shown).servable()
