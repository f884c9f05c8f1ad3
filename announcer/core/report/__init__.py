"""Decisions and what came of them, in the shapes that people, tools and other nodes read."""

from announcer.core.report.cluster import ANNOTATIONS as ANNOTATIONS
from announcer.core.report.cluster import ASSIGNED as ASSIGNED
from announcer.core.report.cluster import Writing as Writing
from announcer.core.report.cluster import object_status as object_status
from announcer.core.report.cluster import pool_counts as pool_counts
from announcer.core.report.cluster import service_status as service_status
from announcer.core.report.cluster import writings as writings
from announcer.core.report.holds import doubtful_status as doubtful_status
from announcer.core.report.holds import hold_report as hold_report
from announcer.core.report.holds import with_holds as with_holds
from announcer.core.report.mirrors import MIRRORS_MOST as MIRRORS_MOST
from announcer.core.report.mirrors import mirrors as mirrors
from announcer.core.report.mirrors import surplus as surplus
from announcer.core.report.node import HOST as HOST
from announcer.core.report.node import node_status as node_status
from announcer.core.report.node import node_tell as node_tell
from announcer.core.report.notes import Note as Note
from announcer.core.report.notes import Tell as Tell
from announcer.core.report.notes import tell_nothing as tell_nothing
from announcer.core.report.rows import Row as Row
from announcer.core.report.rows import rows as rows
from announcer.core.report.tally import Tally as Tally
from announcer.core.report.tally import pool_tally as pool_tally
from announcer.core.report.tally import tally as tally
from announcer.core.report.tally import unready as unready
