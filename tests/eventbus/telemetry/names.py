"""The findings of `promtool check metrics` about a registry, and two that it does not look for: units, and bounds."""

import re
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from eventbus.telemetry.labels import LIMIT

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
BASE_UNITS = {"seconds", "bytes"}
COUNTED = {"events", "messages", "errors", "changes", "clients"}  # what is counted, as the unit of a count
RESERVED_LABELS = {"le", "quantile", "job", "instance"}  # of histograms, of summaries, and what Prometheus itself adds
RESERVED_SUFFIXES = ("_count", "_sum", "_bucket", "_created", "_info")
MAX_VALUES = 2 * LIMIT  # of any label


def complaints(registry: CollectorRegistry) -> list[str]:
    """Everything that is wrong with the names, the texts and the labels of a registry's metrics, for people."""
    return [f"{family.name}: {complaint}" for family in registry.collect() for complaint in _complaints(family)]


def _complaints(family: Metric) -> Iterator[str]:
    if not SNAKE_CASE.fullmatch(family.name):
        yield "is not in snake case"
    if not family.name.startswith("eventbus_"):
        yield "lacks the prefix"
    if family.name.endswith(("_total", *RESERVED_SUFFIXES)):
        yield "has a suffix that samples have"
    if family.type in family.name.split("_"):
        yield "has its type in its name"
    if not re.fullmatch(r"[A-Z].*\.", family.documentation):
        yield f"{family.documentation!r} is no sentence"
    if not family.unit:
        yield "has no unit"
    elif not family.name.endswith(f"_{family.unit}"):
        yield f"does not end in its unit {family.unit}"
    elif family.unit not in BASE_UNITS | COUNTED:
        yield f"its unit {family.unit} is no base unit, and nothing that is counted"
    values: dict[str, set[str]] = {}
    for sample in family.samples:
        if family.type == "counter" and not sample.name.endswith(("_total", "_created")):
            yield f"the counter's sample {sample.name} does not end in _total"
        for label, value in sample.labels.items():
            if label != "le" or family.type != "histogram":
                values.setdefault(label, set()).add(value)
            if not value.isprintable():
                yield f"the value {value!r} of {label} does not print"
    for label, seen in values.items():
        if not SNAKE_CASE.fullmatch(label):
            yield f"its label {label} is not in snake case"
        if label in RESERVED_LABELS:
            yield f"its label {label} is reserved"
        if len(seen) > MAX_VALUES:
            yield f"its label {label} has {len(seen)} values"
