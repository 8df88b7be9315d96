"""``python -m mlcore`` is ``mlcore``."""

import sys

from mlcore.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
