"""The wire edge: ARP and neighbor discovery frames, sent and heard on the node's own links."""

from announcer.wire.port import Counters as Counters
from announcer.wire.sockets import Wire as Wire
from announcer.wire.sockets import WireError as WireError
