"""Writes below each command of docs/performance.md what it prints now: on a machine that does nothing else.

python -m pip install --no-deps biotorch && python docs/performance.py [PART …]

PART: of a command, to run those alone that hold it, such as `stack` or `audit`. A block is written as soon as its command
has ended: the last line of each names its machine. Where a command fails, its block stays as it is.
"""

from pathlib import Path

from scale import fill_in

if __name__ == "__main__":
    fill_in(Path(__file__).with_suffix(".md"), __doc__)
