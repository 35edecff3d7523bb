"""Asking an HTTP server of ours, and what it answers."""

import json
import urllib.error
import urllib.request
from email.message import Message
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support import PATIENCE


class Answer(NamedTuple):
    """The answer of a server."""

    status: int
    headers: Message
    text: str

    @property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads(self.text))


def ask(url: str, method: str = "GET", content: bytes | None = None) -> Answer:
    """The answer, whatever its status."""
    request = urllib.request.Request(url, content, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return Answer(answer.status, answer.headers, answer.read().decode())
    except urllib.error.HTTPError as answer:
        with answer:
            return Answer(answer.code, answer.headers, answer.read().decode())


def scrape(url: str) -> dict[str, float]:
    """The samples of /metrics as Prometheus reads them: `name{label="value"}` and the value."""
    answer = ask(f"{url}/metrics")
    assert answer.status == 200, answer.text
    samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return samples
