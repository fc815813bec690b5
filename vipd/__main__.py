"""`python -m vipd` is the command line."""

import sys

from vipd.cli import main

sys.exit(main())
