"""`announcer cleanup`: take all that is ours off this node, once its agent and ExaBGP have ended for good.

An agent that ends leaves addresses and routes for the next one (docs/install.md says when there is none).
"""

import argparse
import sys

from announcer.core.model import KernelAction, RemoveAddresses, RemoveGuard, RemoveRoute, RemoveVirtualLink
from announcer.core.plan import clear
from announcer.kernel import Kernel, KernelError


async def cleanup(_: argparse.Namespace) -> int:
    """1 where something of ours is left, or not known to be gone."""
    failures: list[str] = []
    try:
        async with Kernel() as kernel:
            for action in clear(await kernel.read()):
                try:
                    await kernel.apply(action)
                    sys.stdout.write(f"removed {_brief(action)}\n")
                except KernelError as error:
                    failures.append(f"{_brief(action)}: {error}")
            failures += [f"{_brief(action)}: still there" for action in clear(await kernel.read())]
    except KernelError as error:
        failures.append(f"the kernel could not be read: {error}")
    for failure in failures:
        sys.stderr.write(f"announcer cleanup: {failure}\n")
    return 1 if failures else 0


def _brief(action: KernelAction) -> str:
    match action:
        case RemoveAddresses():
            return f"{', '.join(map(str, action.addresses))} from {action.ifname}"
        case RemoveRoute():
            return f"route {action.route.kind.name.lower()} {action.route.destination}"
        case RemoveVirtualLink():
            return f"link {action.ifname}"
        case RemoveGuard():
            return "table inet announcer"
        case _:
            raise AssertionError(f"nothing is cleared by {action}")
