"""`announcer` and `python -m announcer`."""

import sys

from announcer.daemons.priority import go_before_others


def main() -> int:
    """An agent goes before others while it still imports the rest: a second of work, which on a busy machine took
    longer than its fence lasts.
    """
    if sys.argv[1:2] == ["agent"]:
        go_before_others()
    from announcer.cli import main as command  # noqa: PLC0415

    return command()


if __name__ == "__main__":
    sys.exit(main())
