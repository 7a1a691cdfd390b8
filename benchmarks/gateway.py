"""A process that serves template.yaml on a port, as `make run` does, on a database that is there already.

Started by benchmarks.stacks as `python -m benchmarks.gateway PORT LOG`, with the functions' environment as its own."""

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks import ROOT
from local.gateway import Template, listen
from local.workers import Workers


def main(port: str, log: str) -> None:
    """Serves until SIGTERM. Raises LocalError when the port can't be had."""
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(("DB_", "POWERTOOLS_"))}
    template = Template(ROOT / "template.yaml", passed_on)
    workers = Workers(template.functions, Path(log), Path(tempfile.gettempdir()))
    end = template.serve(workers, listen(int(port)))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    end()
    workers.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
