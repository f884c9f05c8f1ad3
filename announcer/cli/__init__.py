"""The command line: arguments to settings, and the tables that people read."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from announcer import log
from announcer.cli import run, status


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status is 0 when it did what it was asked."""
    arguments = _parser().parse_args(argv)
    log.configure(arguments.log_format, arguments.log_level)
    try:
        code: int = asyncio.run(arguments.action(arguments))
    except OSError as error:
        sys.stderr.write(f"announcer {arguments.command}: {error}\n")
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="announcer", description=__doc__)
    parser.add_argument("--version", action="version", version=version("announcer"))
    commands = parser.add_subparsers(dest="command", required=True)
    agent = commands.add_parser("agent", help="the node process: makes the network deliver addresses to this node")
    agent.add_argument("--node", required=True, help="name of this node, as its Node object has it")
    agent.add_argument(
        "--exabgp-dir", type=Path, default=Path("/run/announcer"), help="shared with the ExaBGP sidecar (%(default)s)"
    )
    agent.set_defaults(action=run.agent)
    allocator = commands.add_parser("allocator", help="the cluster process: gives Services their addresses")
    allocator.set_defaults(action=run.allocator)
    show = commands.add_parser("status", help="per Service: addresses, mode, who answers, or why nobody does")
    show.add_argument("-o", "--output", choices=("table", "json"), default="table")
    show.set_defaults(action=status.status)
    for command in (agent, allocator, show):
        command.add_argument("--manifests", type=Path, required=True, help="folder of YAML manifests")
        command.add_argument("--log-format", choices=("text", "json"), default="text")
        quiet = "warning" if command is show else "info"
        command.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default=quiet)
    return parser
