"""The README's example runs, and its table of settings is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

from eventbus.settings import EventBusSettings
from tests.container.support import free_ports

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_example(tmp_path: Path) -> None:
    """The README's example runs as a program of its own with an embedded proxy, and its handler is called."""
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(example)
    pub_port, sub_port = free_ports()
    environment = os.environ | {
        "EVENTBUS_EMBEDDED_PROXY": "true",
        "EVENTBUS_PUB_PORT": str(pub_port),
        "EVENTBUS_SUB_PORT": str(sub_port),
    }
    run = subprocess.run(
        [sys.executable, "-W", "error", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("started at 20")


def test_settings_table() -> None:
    """The README's table has every variable with its default and meaning, and no other."""
    rows = re.findall(r"^\| `(EVENTBUS_\w+)` \| (?:`(.*?)`)? ?\| (.*) \|$", README, flags=re.MULTILINE)
    fields = list(EventBusSettings.fields())
    assert [name for name, _, _ in rows] == [EventBusSettings.variable(*path) for path, _ in fields]
    for (name, default, meaning), (_, field) in zip(rows, fields, strict=True):
        expected = "" if field.default in ((), None) else str(field.default)
        assert default == (expected.lower() if isinstance(field.default, bool) else expected), name
        assert meaning.replace("`", "") == (field.description or "").replace("`", ""), name
