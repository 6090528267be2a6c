"""`python -m edgeclip` is `edgeclip`."""

import sys

from edgeclip.cli import main

sys.exit(main())
