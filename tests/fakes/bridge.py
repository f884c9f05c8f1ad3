"""A bridge with an ExaBGP behind it, as the session sees them through the Unix socket. It speaks as 5.0.15 was seen to.

What it does with lines can be bent: `is_deaf` answers nothing, `refuses` answers `error`, `loses_updates` answers and
never sends, `loses_reloads` reads no configuration, `rejects` says what is wrong with every one, `is_blind`
doesn't know with which.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(slots=True)
class Neighbor:
    is_established: bool = True
    families: tuple[str, ...] = ("ipv4 unicast",)
    adj_rib_out: list[str] = field(default_factory=list)
    says_end_of_rib: bool = True


class FakeBridge:
    def __init__(self, directory: Path) -> None:
        self.heard: list[str] = []
        self.neighbors: dict[str, Neighbor] = {}
        self.is_deaf = self.is_blind = self.refuses = self.loses_updates = self.loses_reloads = False
        self.rejects = ""
        self._directory = directory
        self._descriptions: list[str] = []
        self._writers: list[asyncio.StreamWriter] = []

    @classmethod
    @asynccontextmanager
    async def serving(cls, directory: Path, **neighbors: Neighbor) -> AsyncIterator[Self]:
        bridge = cls(directory)
        bridge.neighbors = {name.replace("_", "."): neighbor for name, neighbor in neighbors.items()}
        server = await asyncio.start_unix_server(bridge._serve, directory / "bridge.sock")
        try:
            yield bridge
        finally:
            server.close()
            bridge.hang_up()
            await server.wait_closed()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []

    def say(self, *texts: str) -> None:
        for writer in self._writers:
            writer.write("".join(f"{text}\n" for text in texts).encode("ascii"))

    def set_established(self, peer: str, *, is_established: bool) -> None:
        self.neighbors[peer].is_established = is_established
        change: dict[str, object] = {"state": "up"} if is_established else {"state": "down", "reason": "peer reset"}
        self.say(_event(peer, "state", change))

    def send(self, peer: str, *prefixes: str, is_withdraw: bool = False) -> None:
        """An UPDATE on its way to the peer."""
        if is_withdraw:
            update: dict[str, object] = {"withdraw": {"ipv4 unicast": list(prefixes)}}
        else:
            update = {"attribute": {"origin": "igp"}, "announce": {"ipv4 unicast": {"10.9.0.2": list(prefixes)}}}
        self.say(_event(peer, "update", {"direction": "send", "message": {"update": update}}))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hang_up()
        self._writers = [writer]
        self.say(json.dumps({"bridge": "hello", "exabgp_pid": 7, "bridge_pid": 8, "started": 1.5}))
        with suppress(ConnectionError):
            while line := (await reader.readline()).decode("ascii").rstrip("\n"):
                self.heard.append(line)
                if not self.is_deaf:
                    self._obey(line)

    def _obey(self, line: str) -> None:
        if line == "bridge reload":
            self._reload()
        elif line == "show neighbor json":
            self.say(json.dumps([_state(peer, neighbor) for peer, neighbor in self.neighbors.items()]), "done")
        elif line == "show neighbor configuration":
            self.say(*(f'  description "{text}";' for text in self._descriptions), "done")
        elif self.refuses:
            self.say("error")
        else:
            self._change(line.split())

    def _reload(self) -> None:
        candidate, path = self._directory / "exabgp.next", self._directory / "exabgp.conf"
        if candidate.exists() and self.rejects:
            (found, *_) = re.findall(r"description (\S+);", candidate.read_text(encoding="ascii"))
            description = "" if self.is_blind else found
            candidate.unlink()
            self.say(json.dumps({"bridge": "rejected", "description": description, "error": self.rejects}))
            return
        if candidate.exists():
            candidate.replace(path)
        if not self.loses_reloads:
            self._descriptions = re.findall(r"description (\S+);", path.read_text(encoding="ascii"))
        self.say('{"bridge": "reload"}')

    def _change(self, words: list[str]) -> None:
        peer = words[1]
        neighbor = self.neighbors[peer]
        self.say("done")
        match words[2:]:
            case ["flush", *_]:
                for prefix in neighbor.adj_rib_out:
                    self.send(peer, prefix)
            case ["announce", "eor", afi, safi] if neighbor.says_end_of_rib:
                message = {"eor": {"afi": afi, "safi": safi}}
                self.say(_event(peer, "update", {"direction": "send", "message": message}))
            case ["announce" | "withdraw" as verb, "attributes", *rest] if not self.loses_updates:
                self.send(peer, *rest[rest.index("nlri") + 1 :], is_withdraw=verb == "withdraw")


def _state(peer: str, neighbor: Neighbor) -> dict[str, object]:
    fsm = "ESTABLISHED" if neighbor.is_established else "IDLE"
    return {"fsm": fsm, "state": "down", "peer": {"address": peer}, "families": list(neighbor.families)}


def _event(peer: str, kind: str, content: dict[str, object]) -> str:
    neighbor = {"address": {"local": "10.9.0.2", "peer": peer}, "asn": {"local": 64512, "peer": 64513}} | content
    return json.dumps({"exabgp": "5.0.0", "type": kind, "neighbor": neighbor})
