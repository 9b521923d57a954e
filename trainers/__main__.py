"""``python -m trainers dfa …``: the door of ``fa-track train`` (this file alone belongs to the command line)."""

import sys

from fa_tracking.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]], prog_name="python -m trainers")
