import sys

import panel as pn
from functions import square

import jobkit

pn.extension(reconnect=True)
kit = jobkit.connect()


def app():
    button = pn.widgets.Button(name="Run", button_type="primary")
    return pn.Column(button, pn.bind(lambda n: kit.submit(square, 12) if n else "Nothing yet", button))


if __name__ == "__main__":
    pn.serve({"app": app}, port=int(sys.argv[1]), show=False)
