"""The door of the command line: ``fa-track`` and ``python -m fa_tracking``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends as it does later: in a line, with 130."""
    try:
        from fa_tracking.cli import main as command
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    command(prog_name="fa-track")


if __name__ == "__main__":
    main()
