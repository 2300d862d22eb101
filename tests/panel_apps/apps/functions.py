import time

import jobkit


def square(x):
    time.sleep(0.2)
    return x * x


def curve(n):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot(range(n))
    return figure


def counted(n):
    total = 0
    for each in jobkit.track(range(n)):
        time.sleep(0.05)
        total += each
    return total
