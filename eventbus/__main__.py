"""``python -m eventbus`` is ``eventbus``."""

import sys

from eventbus.cli.main import main

sys.exit(main())
