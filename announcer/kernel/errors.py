"""The one family of errors of this edge."""

import os


class KernelError(Exception):
    """The kernel refused, did not answer in time, or was interrupted: what was asked is not done or not known."""


class RefusedError(KernelError):
    """The kernel said no: its errno, and its own words where it gave some (NETLINK_EXT_ACK)."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(f"{text or os.strerror(errno)} (errno {errno})")
        self.errno = errno
