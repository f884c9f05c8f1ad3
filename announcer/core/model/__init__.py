"""The values that cross borders inside announcer.

Everything here is frozen and compares by value. Text becomes `ipaddress` types in `core.dialects` and stays that way; a
collection whose order means nothing is a frozenset or a sorted tuple. Names are those of the standards: RFC 4271 for
BGP, RFC 826 and 5227 for ARP, rtnetlink for the kernel, the API's fields in snake_case for Kubernetes.
"""

from announcer.core.model.actions import *
from announcer.core.model.basics import *
from announcer.core.model.bfd import *
from announcer.core.model.homes import *
from announcer.core.model.objects import *
from announcer.core.model.observed import *
from announcer.core.model.reports import *
from announcer.core.model.routing import *
from announcer.core.model.selectors import *
