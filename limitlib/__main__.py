"""``python -m limitlib``: the command line."""

import sys

from limitlib.companion.cli import main

sys.exit(main())
