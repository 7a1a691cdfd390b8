"""`python -m jobs.matching`. EMR Serverless runs a copy of this file, `matching.py`: it imports by full names only."""

import sys

from jobs.matching.command import main

if __name__ == "__main__":
    sys.exit(main())
