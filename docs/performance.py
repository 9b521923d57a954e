"""Writes below each command of docs/performance.md what it prints now: on a machine that does nothing else.

python -m pip install --no-deps biotorch && python docs/performance.py
"""

from pathlib import Path

from scale import fill_in

if __name__ == "__main__":
    fill_in(Path(__file__).with_suffix(".md"))
