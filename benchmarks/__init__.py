"""Speed and memory of this system beside the usual service for the job, on the same data in one run: `make bench`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")

# Where the functions find the layer; here it is imported as they import it.
sys.path.insert(0, str(ROOT / "layers"))
