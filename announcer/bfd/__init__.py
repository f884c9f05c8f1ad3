"""FRR's bfdd: the BFD sessions it runs for us, and what it says of them.

`messages` turns bytes and text of its two sockets into values and back, `vty` is the one that takes commands, `daemon`
keeps both open and the sessions as they are wanted.
"""

from announcer.bfd.daemon import Bfdd as Bfdd
from announcer.bfd.daemon import Timing as Timing
from announcer.bfd.messages import BfdError as BfdError
