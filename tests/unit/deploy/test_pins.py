"""images/*.txt: what the images have is what the tests run with, and all that the program asks for."""

import re
import tomllib

from lab.topology import REPOSITORY


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (REPOSITORY / name).read_text("utf-8"), re.MULTILINE))


def test_images_have_the_versions_that_are_tested() -> None:
    tested, images = pins("requirements.txt"), pins("images/announcer.txt") | pins("images/exabgp.txt")
    assert images.items() <= tested.items()


def test_images_have_all_that_the_program_asks_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {re.split(r"[<>=]", text)[0].replace("_", "-") for text in project["dependencies"]}
    assert asked - {"exabgp"} <= pins("images/announcer.txt").keys()
    assert pins("images/exabgp.txt").keys() == {"exabgp"}
