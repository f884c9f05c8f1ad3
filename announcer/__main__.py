"""`python -m announcer`."""

import sys

from announcer.cli import main

if __name__ == "__main__":
    sys.exit(main())
