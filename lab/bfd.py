"""bfdd of a node: what an agent's BFD sessions run in, with its sockets in a directory of its own."""

import shutil

from lab.routers.frr import DAEMONS, USER
from lab.topology import Lab, LabNode


def prepare(lab: Lab, node: LabNode) -> None:
    """bfdd leaves root for the user of FRR's package, so the directory is theirs."""
    folder = lab.bfd_dir(node)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.chown(folder, USER, USER)


def argv(lab: Lab, node: LabNode) -> list[str]:
    folder = lab.bfd_dir(node)
    files = ["-f", "/dev/null", "-i", f"{folder}/bfdd.pid", "-z", f"{folder}/none", "--vty_socket", str(folder)]
    return [str(DAEMONS / "bfdd"), *files, "--bfdctl", f"{folder}/bfdd.sock", "-P", "0", "--log", "stdout"]
