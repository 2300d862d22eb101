import sys

import panel as pn
import uvicorn
from fastapi import FastAPI
from functions import square
from panel.io.fastapi import add_application

import jobkit

pn.extension(reconnect=True)
app = FastAPI()
kit = jobkit.connect()


@app.get("/")
async def root():
    return {"message": "Hello"}


@add_application("/app", app=app, title="Squares")
def page():
    button = pn.widgets.Button(name="Run", button_type="primary")
    return pn.Column(button, pn.bind(lambda n: kit.submit(square, 12) if n else "Nothing yet", button))


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
