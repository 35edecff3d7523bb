"""``python -m coreio``: the program, configured by the variables EVENTBUS_*. It ends with SIGTERM, SIGINT or `exit`."""

from coreio.container import App
from eventbus.container import run

if __name__ == "__main__":
    run(App)
