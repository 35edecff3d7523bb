"""``python -m eventbus`` is ``eventbus``."""

import sys

from eventbus.cli import main

sys.exit(main())
