"""`python -m lhcc` is `lhcc`."""

from __future__ import annotations

import sys

from lhcc.cli import main

sys.exit(main())
