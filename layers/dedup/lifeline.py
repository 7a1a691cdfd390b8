"""Ends a process when its parent process ends, even if the parent is killed.

The parent passes the reading end of a pipe as standard input and keeps the writing end, which the kernel closes when
the parent ends, also after kill -9. Linux's parent-death signal is not suitable: it is sent when the thread that
started the process ends."""

import os
import signal
import threading
from multiprocessing import parent_process


def end_with_input() -> None:
    """From now on, kills this process when its standard input ends. If the process leads a process group, the whole
    group is killed."""
    threading.Thread(target=_kill_at_end_of_input, daemon=True).start()


def end_with_parent() -> None:
    """From now on, ends this multiprocessing child when its parent ends. Otherwise it would wait forever."""
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
