"""The log of a command on a terminal: errors red, warnings yellow."""

import logging
import sys

from eventbus.cli.terminal import Paint, Style, wants_colours
from eventbus.policies import LogFormat
from eventbus.telemetry import logs


def configure_log(form: LogFormat) -> None:
    """Write the log of this process to stderr from now on, in colours on a terminal that has them."""
    paint = Paint(wants_colours(sys.stderr))
    logs.configure(form, paint=lambda word, level: paint(word, Style.RED if level >= logging.ERROR else Style.YELLOW))
