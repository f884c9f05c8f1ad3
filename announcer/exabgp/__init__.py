"""ExaBGP: its configuration, its routes, and what is proven to be on the wire.

`config` and `lines` turn values into text and back, `picture` keeps what ExaBGP said, `session` talks to the bridge
that ExaBGP runs (exabgp/bridge.py at the top of the repository).
"""

from announcer.exabgp.session import ExabgpSession as ExabgpSession
from announcer.exabgp.session import Timing as Timing
from announcer.exabgp.text import ExabgpError as ExabgpError
