"""What Prometheus and the kubelet ask a process: its metrics, whether it lives, whether it is ready.

Nothing is counted here: at every scrape the values are asked for that daemons keep anyway.
"""

from announcer.metrics.collector import cluster_metrics as cluster_metrics
from announcer.metrics.collector import exposition as exposition
from announcer.metrics.collector import node_metrics as node_metrics
from announcer.metrics.server import Address as Address
from announcer.metrics.server import Server as Server
from announcer.metrics.tls import TlsFiles as TlsFiles
from announcer.metrics.values import ClusterState as ClusterState
from announcer.metrics.values import NodeState as NodeState
from announcer.metrics.values import PassState as PassState
from announcer.metrics.values import ProcessState as ProcessState
from announcer.metrics.values import StoreState as StoreState
