"""The priority of an agent: asked for before anything else is imported, so nothing else is imported here."""

import os

NICE = -10


def go_before_others() -> bool:
    """Ask the scheduler for less waiting (nice -10): a busy node must not make its fail-overs late. Whether it is so.

    It takes CAP_SYS_NICE or RLIMIT_NICE; without them everything works as before.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, min(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    except PermissionError:
        return False
    return True
