"""``python -m eventbus`` is ``eventbus``."""

import sys

from eventbus.cli.main import program

sys.exit(program())
