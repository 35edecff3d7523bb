"""The frameworks that dependency_injector looks for are imported when a program uses them, and work as ever."""

import pytest

from tests.support import run_script

pytestmark = pytest.mark.process

SERVICE = """
from typing import Annotated
from dependency_injector import containers, providers
from dependency_injector.wiring import Provide, inject
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.requests import Request

class App(containers.DeclarativeContainer):
    answer = providers.Object(42)

app = FastAPI()

@app.get("/")
@inject
def read(request: Request, answer: Annotated[int, Depends(Provide[App.answer])]) -> dict[str, int]:
    return {request.method: answer}

App().wire(modules=[__name__])
print(TestClient(app).get("/").json())
"""

FIRST = {
    "the container": "import eventbus.container",
    "FastAPI": "import fastapi\nimport eventbus.container",
    "the wiring": "import dependency_injector.containers\nimport eventbus.container",
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_fastapi_is_injected_into(first: str) -> None:
    """A route gets what the container provides, whatever was imported first."""
    assert run_script(first + SERVICE).stdout == "{'GET': 42}\n"


def test_no_framework_comes_along() -> None:
    """A service that uses none of the frameworks does not load them, although FastAPI is installed."""
    code = "import sys\nimport eventbus.container\nprint({'fastapi', 'starlette', 'werkzeug'} & set(sys.modules))"
    assert run_script(code).stdout == "set()\n"


def test_another_thread_imports_a_framework_meanwhile() -> None:
    """Frameworks are hidden from the importing thread only."""
    code = """
import sys
from importlib.util import find_spec
from threading import Thread
from eventbus.container.light_wiring import _Hiding

hiding = _Hiding({"fastapi"})
sys.meta_path.insert(0, hiding)
found = []
thread = Thread(target=lambda: found.append(find_spec("fastapi") is not None))
thread.start()
thread.join()
try:
    import fastapi
except ModuleNotFoundError as error:
    print(found, error.name)
"""
    assert run_script(code).stdout == "[True] fastapi\n"
