import time


def square(x):
    time.sleep(0.2)
    return x * x


def curve(n):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot(range(n))
    return figure


def bars(n):
    import plotly.graph_objects

    return plotly.graph_objects.Figure(plotly.graph_objects.Bar(y=list(range(n))), {"title": {"text": "Drawn: 144"}})


def line(n):
    import holoviews

    holoviews.extension("bokeh")
    return holoviews.Curve([(each, each * each) for each in range(n)], label="Drawn: 144")
