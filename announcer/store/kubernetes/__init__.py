"""The Kubernetes API as the home of objects: reading, writing back, and leading."""

from announcer.store.kubernetes.client import ApiError as ApiError
from announcer.store.kubernetes.client import Client as Client
from announcer.store.kubernetes.lease import Lease as Lease
from announcer.store.kubernetes.lease import LeaseTiming as LeaseTiming
from announcer.store.kubernetes.lease import read_held as read_held
from announcer.store.kubernetes.resources import CONFIGURATION as CONFIGURATION
from announcer.store.kubernetes.resources import FOR_STATUS as FOR_STATUS
from announcer.store.kubernetes.resources import MIRRORS as MIRRORS
from announcer.store.kubernetes.resources import Resource as Resource
from announcer.store.kubernetes.resources import read_by_agent as read_by_agent
from announcer.store.kubernetes.resources import read_by_allocator as read_by_allocator
from announcer.store.kubernetes.store import KubernetesStore as KubernetesStore
from announcer.store.kubernetes.store import Meaning as Meaning
from announcer.store.kubernetes.store import Role as Role
from announcer.store.kubernetes.watching import Timing as Timing
