"""`python -m vipd` is the command line."""

import sys

from vipd.cli.main import main

sys.exit(main())
