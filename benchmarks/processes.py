"""Claim: two training processes on two cores lose less than 5 % to each other.

    python benchmarks/processes.py [--images N] [--rounds N]

Epochs of DFA on ResMLP d = 256, one thread a process: alone, and beside another that does the same. What two lose is
memory traffic, caches and clock; bare matrix products beside each other show how much of that is the machine's own.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
from _timing import interleaved, machine, random_images, ratio
from epoch import RESMLP, bare_products, ours

BATCH = 128
CLAIMS = {"dfa": "   claim: at most 1.05", "products": ""}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=100 * BATCH)
    arguments.add_argument("--rounds", type=int, default=9)
    given = arguments.parse_args()
    context = multiprocessing.get_context("forkserver")
    pipes = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=work, args=(theirs, given.images)) for _, theirs in pipes]
    for process in processes:
        process.start()
    one, other = (mine for mine, _ in pipes)
    for kind, claim in CLAIMS.items():
        candidates = {"alone": asked(kind, one), "beside": asked(kind, one, other)}
        found = ratio(interleaved(candidates, given.rounds), "beside", "alone")
        print(f"{kind:<9} beside another / alone   {found}{claim}")
    for mine, _ in pipes:
        mine.send("")
    for process in processes:
        process.join()
    print(machine())


def asked(kind: str, *workers: Connection) -> Callable[[], None]:
    """All of the workers do one epoch at once."""

    def run() -> None:
        for worker in workers:
            worker.send(kind)
        for worker in workers:
            worker.recv()

    return run


def work(pipe: Connection, images: int) -> None:
    torch.set_num_threads(1)
    run = {"dfa": ours("dfa", RESMLP, random_images(images)), "products": bare_products(images // BATCH)}
    while kind := pipe.recv():
        began = time.perf_counter()
        run[kind]()
        pipe.send(time.perf_counter() - began)


if __name__ == "__main__":
    main()
