"""Ends a process with the one that started it, however that one ends.

Whoever starts the process gives it the reading end of a pipe as standard input and keeps the writing end: the kernel
closes that with its holder, also after a kill -9. Linux's parent-death signal would not do: it is sent when the thread
that started the process ends."""

import os
import signal
import threading
from multiprocessing import parent_process


def end_with_input() -> None:
    """Kills this process from now on as soon as its standard input ends; and all that it started, where it leads a
    process group of its own."""
    threading.Thread(target=_kill_at_end_of_input, daemon=True).start()


def end_with_parent() -> None:
    """Ends this process, one that multiprocessing made, as soon as its parent is gone: it would wait for ever."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _kill_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _exit_after_parent() -> None:
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)
