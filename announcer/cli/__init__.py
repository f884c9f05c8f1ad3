"""The command line: arguments to settings, and the tables that people read."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from announcer import log
from announcer.cli import cleanup, drain, run, status
from announcer.core.own import SETTINGS, read_timing
from announcer.core.plan import Pace
from announcer.metrics import Address, TlsFiles
from announcer.store import StoreError
from announcer.store.kubernetes import LeaseTiming


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status is 0 when it did what it was asked."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "agent":
        try:
            arguments.ownership = read_timing(arguments.ownership)
        except ValueError as error:
            parser.error(f"--ownership {error}")
    if arguments.command in {"agent", "allocator"}:
        try:
            arguments.metrics_tls = _tls(arguments)
        except ValueError as error:
            parser.error(str(error))
    log.configure(arguments.log_format, arguments.log_level)
    try:
        code: int = asyncio.run(arguments.action(arguments))
    except (OSError, StoreError) as error:
        sys.stderr.write(f"announcer {arguments.command}: {error}\n")
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="announcer", description=__doc__)
    parser.add_argument("--version", action="version", version=version("announcer"))
    commands = parser.add_subparsers(dest="command", required=True)
    agent = commands.add_parser("agent", help="the node process: makes the network deliver addresses to this node")
    node = os.environ.get("NODE_NAME")
    agent.add_argument(
        "--node", default=node, required=node is None, help="name of this node, as its Node object has it ($NODE_NAME)"
    )
    agent.add_argument(
        "--exabgp-dir", type=Path, default=Path("/run/announcer"), help="shared with the ExaBGP sidecar (%(default)s)"
    )
    agent.add_argument(
        "--bfd-dir", type=Path, help="shared with the bfdd sidecar (docs/bgp.md); without it, no session has BFD"
    )
    agent.add_argument(
        "--ownership",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"a setting of who answers for local addresses, may be given again; one of {', '.join(SETTINGS)} "
        "(docs/ownership.md)",
    )
    agent.add_argument(
        "--drain-seconds",
        dest="pace",
        type=_pace,
        default=Pace(),
        metavar="SECONDS",
        help="how long a route that is to go says GRACEFUL_SHUTDOWN before it is withdrawn (docs/bgp.md; 1)",
    )
    agent.add_argument(
        "--port-guard",
        choices=("on", "off"),
        default="on",
        help="drop what comes from outside to our addresses on ports of no Service (docs/port-guard.md; %(default)s)",
    )
    _add_metrics(agent, ":9720")
    agent.set_defaults(action=run.agent)
    allocator = commands.add_parser("allocator", help="the cluster process: gives Services their addresses")
    _add_lease(allocator)
    allocator.add_argument(
        "--metallb-status",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write ServiceL2Status and ServiceBGPStatus for Services of IPAddressPools, into the namespace of the "
        "Lease (default: yes)",
    )
    _add_metrics(allocator, ":9721")
    allocator.set_defaults(action=run.allocator)
    show = commands.add_parser("status", help="per Service: addresses, mode, who answers, or why nobody does")
    show.add_argument("-o", "--output", choices=("table", "json"), default="table")
    _add_lease_name(show)
    show.set_defaults(action=status.status)
    leave = commands.add_parser("drain", help="take a node of the cluster out of service, or put it back, by its label")
    leave.add_argument("node", help="name of its Node object")
    leave.add_argument("--undo", action="store_true", help="put it back into service")
    leave.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="for its report to say that it is drained"
    )
    _add_kubeconfig(leave)
    leave.set_defaults(action=drain.drain)
    clean = commands.add_parser(
        "cleanup", help="take addresses, routes and links of ours off this node, after its agent and ExaBGP have ended"
    )
    clean.set_defaults(action=cleanup.cleanup)
    for command in (agent, allocator, show):
        _add_store(command)
    for command in (agent, allocator, show, leave, clean):
        command.add_argument("--log-format", choices=("text", "json"), default="text")
        quiet = "warning" if command in {show, leave, clean} else "info"
        command.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default=quiet)
    return parser


def _add_store(command: argparse.ArgumentParser) -> None:
    home = command.add_mutually_exclusive_group()
    home.add_argument("--manifests", type=Path, help="folder of YAML manifests, instead of a cluster")
    _add_kubeconfig(home)
    command.add_argument(
        "--load-balancer-class",
        action="append",
        metavar="CLASS",
        help="spec.loadBalancerClass of Services that are ours, may be given again; `none` is those that have none "
        "(default: none, purelb.io/purelb and purelb.io/purelbv2)",
    )


def _add_kubeconfig(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--kubeconfig", type=Path, help="cluster to use; without another source, the pod's own ($KUBECONFIG)"
    )


def _pace(text: str) -> Pace:
    try:
        return Pace.of(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}; try 1") from error


def _metrics(text: str) -> Address | None:
    try:
        return Address.of(text) if text else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_metrics(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--metrics-address",
        type=_metrics,
        default=default,
        metavar="HOST:PORT",
        help="where /metrics, /healthz and /readyz are served; empty for nowhere (%(default)s: every address)",
    )
    command.add_argument(
        "--metrics-cert", type=Path, metavar="FILE", help="PEM certificate to serve them by TLS (docs/metrics.md)"
    )
    command.add_argument("--metrics-key", type=Path, metavar="FILE", help="PEM key of that certificate")
    command.add_argument(
        "--metrics-client-ca",
        type=Path,
        metavar="FILE",
        help="PEM certificates of a CA: /metrics is for clients with a certificate that it signed",
    )


def _tls(arguments: argparse.Namespace) -> TlsFiles | None:
    """Raises ValueError where the options don't go together."""
    certificate, key, client_ca = arguments.metrics_cert, arguments.metrics_key, arguments.metrics_client_ca
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ValueError("TLS takes both --metrics-cert and --metrics-key: give the one that is missing too")
    if arguments.metrics_address is None:
        raise ValueError("--metrics-cert has no use with an empty --metrics-address: leave one of them out")
    return TlsFiles(certificate=certificate, key=key, client_ca=client_ca)


def _lease(text: str) -> LeaseTiming:
    try:
        return LeaseTiming.of(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}; try 12") from error


def _add_lease(command: argparse.ArgumentParser) -> None:
    _add_lease_name(command)
    command.add_argument(
        "--lease-seconds", type=_lease, default=LeaseTiming(), help="after which another replica leads (12)"
    )


def _add_lease_name(command: argparse.ArgumentParser) -> None:
    namespace = os.environ.get("POD_NAMESPACE", "announcer-system")
    command.add_argument("--lease-namespace", default=namespace, help="of the leader's Lease ($POD_NAMESPACE)")
    command.add_argument("--lease-name", default="announcer-allocator", help="of the leader's Lease (%(default)s)")
