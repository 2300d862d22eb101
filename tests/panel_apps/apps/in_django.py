import os
import sys

import django
from bokeh.settings import settings as of_bokeh
from bokeh.util.paths import bokehjs_path
from django.conf import settings

os.environ["JOBKIT_ROLES"] = "anonymous=operate"  # a visitor of Django has no name here
of_bokeh.resources = "server"
settings.configure(
    ALLOWED_HOSTS=["localhost"],
    DEBUG=True,
    INSTALLED_APPS=["django.contrib.staticfiles", "channels", "bokeh_django"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="secret",
    STATIC_URL="/static/",
    STATICFILES_DIRS=[bokehjs_path()],
)
django.setup()

import panel as pn  # noqa: E402  # all of these need Django's settings
import panel.io.django  # noqa: E402
import uvicorn  # noqa: E402
from bokeh_django import document, static_extensions  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.sessions import CookieMiddleware  # noqa: E402
from django.apps import apps  # noqa: E402
from django.contrib.staticfiles.urls import staticfiles_urlpatterns  # noqa: E402
from functions import square  # noqa: E402

import jobkit  # noqa: E402

kit = jobkit.connect()


def page(doc):
    button = pn.widgets.Button(name="Run", button_type="primary")
    jobs = pn.Column("Jobs")
    button.on_click(lambda event: jobs.append(kit.submit(square, 12)))
    pn.Column(button, jobs).server_doc(doc)


bokeh_apps = [document("app", page)]
urlpatterns = [*static_extensions(), *staticfiles_urlpatterns()]

if __name__ == "__main__":
    routes = apps.get_app_config("bokeh_django").routes
    application = ProtocolTypeRouter(
        {
            "websocket": CookieMiddleware(URLRouter(routes.get_websocket_urlpatterns())),
            "http": CookieMiddleware(URLRouter(routes.get_http_urlpatterns())),
        }
    )
    uvicorn.run(application, port=int(sys.argv[1]), log_level="warning")
