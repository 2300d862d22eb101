import os
import time
from pathlib import Path


def work():
    """Take a while; if the test holds the jobs of this home, until it lets them go."""
    time.sleep(0.2)
    home = Path(os.environ["JOBKIT_HOME"])
    while (home / "held").exists():
        (home / "working").touch()
        time.sleep(0.05)


def square(x):
    work()
    return x * x


def curve(n):
    from matplotlib.figure import Figure

    work()
    figure = Figure()
    figure.subplots().plot(range(n))
    return figure


def bars(n):
    import plotly.graph_objects

    work()
    return plotly.graph_objects.Figure(plotly.graph_objects.Bar(y=list(range(n))), {"title": {"text": "Drawn: 144"}})


def line(n):
    import holoviews

    work()
    holoviews.extension("bokeh")
    return holoviews.Curve([(each, each * each) for each in range(n)], label="Drawn: 144")
