"""``python -m eventbus`` is ``eventbus``."""

import sys

from eventbus.cli.program import program

sys.exit(program())
