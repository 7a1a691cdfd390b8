"""python -m jobs.attended MODULE ARGUMENTS: a module of jobs/ that ends with the process that started it.

That one holds the writing end of the pipe that is this one's standard input, see dedup.lifeline."""

import runpy
import sys

from dedup.lifeline import end_with_input

import jobs  # it makes the layer's package known in a checkout


def main() -> None:
    """Runs the module as `python -m` would."""
    end_with_input()
    del sys.argv[0]
    runpy.run_module(f"{jobs.__name__}.{sys.argv[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
