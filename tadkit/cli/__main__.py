"""``python -m tadkit.cli``: the command line if the script is not on the path."""

import sys

from tadkit.cli import main

sys.exit(main())
