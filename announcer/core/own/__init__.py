"""Who holds a local address on a link: the ownership protocol as one step, a function of state, event and time.

Kubernetes says who may hold an address (`May`), the wire says who does. Rule numbers are those of the protocol; what
was mended in it is in ARCHITECTURE.md.

| phase | meaning | leaves when |
|---|---|---|
| WAITING | a candidate lets those before it go first: position x T (rule 2) | the time is over: PROBING |
| PROBING | RFC 5227 probes are out, nobody has answered yet | three unanswered: HOLDING; an answer: WATCHING |
| WATCHING | somebody else holds it; it is asked for (rule 8), and its node is watched (rule 7) | no answer: HOLDING |
| SUCCEEDING | the holder is dead or no candidate, those before in the order go first | nobody did: HOLDING |
| HOLDING | this kernel answers; fence refreshed (rule 4) | candidacy lost: LEAVING; conflict lost: WATCHING |
| LEAVING | no candidate any more, still answering (rule 5) | a successor is heard, or 2 s went by |
| DARK | held on a link that has lost its carrier (rule 10) | 2 T: given up; carrier back before: HOLDING |
"""

from announcer.core.own.order import rank as rank
from announcer.core.own.order import successors as successors
from announcer.core.own.rules import farewell as farewell
from announcer.core.own.rules import interest as interest
from announcer.core.own.rules import minds_probes as minds_probes
from announcer.core.own.rules import next_due as next_due
from announcer.core.own.rules import step as step
from announcer.core.own.rules import steps as steps
from announcer.core.own.timing import SETTINGS as SETTINGS
from announcer.core.own.timing import Timing as Timing
from announcer.core.own.timing import read_timing as read_timing
from announcer.core.own.values import Asked as Asked
from announcer.core.own.values import Cause as Cause
from announcer.core.own.values import Entry as Entry
from announcer.core.own.values import Event as Event
from announcer.core.own.values import Frames as Frames
from announcer.core.own.values import Key as Key
from announcer.core.own.values import May as May
from announcer.core.own.values import Move as Move
from announcer.core.own.values import Neighbor as Neighbor
from announcer.core.own.values import Ownership as Ownership
from announcer.core.own.values import OwnLink as OwnLink
from announcer.core.own.values import Phase as Phase
from announcer.core.own.values import Present as Present
from announcer.core.own.values import Refreshed as Refreshed
from announcer.core.own.values import Step as Step
from announcer.core.own.values import Tick as Tick
from announcer.core.own.values import Watch as Watch
