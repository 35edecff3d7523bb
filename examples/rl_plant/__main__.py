"""``python examples/rl_plant``: the scenario in one command; see README.md."""

import sys

from scenario.command import main

if __name__ == "__main__":
    sys.exit(main())
