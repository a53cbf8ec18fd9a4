"""``python -m system.bin`` is the same as ``wheeltapper``."""

import sys

from system.bin import main

sys.exit(main())
