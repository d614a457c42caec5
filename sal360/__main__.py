"""``python -m sal360`` is the command line."""

import sys

from sal360.cli import main

sys.exit(main())
