"""``python -m coredinator``: the program. It serves at EVENTBUS_HTTP_PORT, by default 8000, until SIGTERM or SIGINT."""

import uvicorn

from coredinator.app import app
from eventbus.settings import EventBusSettings

if __name__ == "__main__":
    settings = EventBusSettings()
    uvicorn.run(app, host=settings.http_host, port=settings.http_port or 8000, log_level="warning")
