"""Runs every reader, or those that are named, on hostile input and prints what became of it.

    python -m tests.fuzz --cases 100000
    python -m tests.fuzz checkpoint study --cases 2000
    python -m tests.fuzz --atheris --cases 20000        # guided by coverage; needs atheris

Each reader has a process of its own, whose memory is bounded. Exit code 1 where one fails.
"""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections import Counter

import click

from . import MEMORY, targets, test_of

LARGEST_PROCESS = 2**36
"""Bytes of address space: torch alone reserves much that it never uses."""


@click.command()
@click.argument("names", nargs=-1)
@click.option("--cases", default=100_000, show_default=True, help="In all, shared out by the readers' weights.")
@click.option("--atheris", "guided", is_flag=True, help="Guided by coverage, with atheris.")
@click.option("--one", is_flag=True, hidden=True, help="All cases on one reader in this process, as JSON.")
def main(names: tuple[str, ...], cases: int, guided: bool, one: bool) -> None:
    """What becomes of hostile input."""
    if one:
        _one(names[0], cases, guided)
        return
    found = {name: target for name, target in targets().items() if name in names or not names}
    weights = sum(target.WEIGHT for target in found.values())
    total, failed = 0, []
    click.echo(f"{'reader':<62} {'cases':>8} {'read':>8} {'refused':>8} {'seconds':>8} {'MiB':>6}")
    for name, target in found.items():
        share = -(-cases * target.WEIGHT // weights)
        command = [sys.executable, "-m", "tests.fuzz", name, "--one", "--cases", str(share)]
        done = subprocess.run(
            [*command, *(["--atheris"] if guided else [])], capture_output=True, text=True, check=False
        )
        told = re.findall(r"^FUZZ (.*)$", done.stdout, re.M)
        if done.returncode or not told:
            failed.append(name)
            click.echo(f"{target.TITLE:<62} FAILED\n{(done.stdout + done.stderr)[-6000:]}")
            continue
        said = json.loads(told[-1])
        total += said["cases"]
        click.echo(
            f"{target.TITLE:<62} {said['cases']:>8} {said['read']:>8} {said['refused']:>8} "
            f"{said['seconds']:>8.0f} {said['mib']:>6.0f}"
        )
    click.echo(f"{total} cases; failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


def _one(name: str, cases: int, guided: bool) -> None:
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_PROCESS, LARGEST_PROCESS))
    outcomes: Counter[str] = Counter()
    if guided:
        import atheris

        with atheris.instrument_imports(include=["fa_tracking", "trainers"]):
            target = targets()[name]
    else:
        target = targets()[name]
    test_of(target, 5, Counter(), derandomize=True)()  # what it imports is no growth of its own
    before, began = _peak(), time.monotonic()

    def tell() -> None:
        grown = (_peak() - before) / 2**20
        assert grown * 2**20 < MEMORY, f"memory grew by {grown:.0f} MiB"
        said = {"cases": outcomes.total(), **{k: outcomes[k] for k in ("read", "refused")}}
        click.echo(f"FUZZ {json.dumps(said | {'seconds': time.monotonic() - began, 'mib': grown})}")

    test = test_of(target, cases, outcomes)
    if not guided:
        test()
        tell()
        return
    feed = test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    runs = 0

    def one(data: bytes) -> None:
        nonlocal runs
        runs += 1
        feed(data)
        if runs == cases:  # libFuzzer ends the process by itself, without another word
            tell()
            sys.stdout.flush()
            os._exit(0)

    atheris.Setup([sys.argv[0], f"-runs={cases * 2}", "-verbosity=0", "-rss_limit_mb=0"], one)
    atheris.Fuzz()


def _peak() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(prog_name="python -m tests.fuzz")
