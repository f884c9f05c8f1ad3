"""The kernel edge: reads links, addresses, routes and devconf, carries out changes to them, and tells of everybody's.

All of it works in the network namespace of the calling process with CAP_NET_ADMIN alone. Sources: linux/rtnetlink.h,
linux/if_link.h, linux/if_addr.h, linux/ip.h.
"""

from announcer.kernel.errors import KernelError as KernelError
from announcer.kernel.kernel import Kernel as Kernel
