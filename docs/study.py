"""Writes docs/study.md: what has been trained of the published study by its own definitions, and what is missing.

python docs/study.py > docs/study.md
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fa_tracking.publishing.tables import render
from fa_tracking.results.database import connect, run_sql
from fa_tracking.trainers.config import RunConfig
from fa_tracking.trainers.study import grid

RESULTS = Path(__file__).parent / "reference-results" / "study"

ORDER = (
    "dfa_penalty",
    "audit_resmlp",
    "ten_epochs",
    "no_terminal_norm",
    "random_labels",
    "depth_ladder",
    "width_512",
    "depth_sweep",
    "cross_architecture",
    "cifar100",
)
"""The studies in the order in which they are trained: whoever goes on begins at the first run that is missing."""

TRAINED = """
select r.method, r.architecture, r.epochs, r.penalty, r.frozen_blocks as frozen, r.seed, a.headline_accuracy as accuracy,
    a.margin_pp, a.max_block_growth as growth, a.deepest_residual_norm as residual_norm,
    a.deepest_grad_norm as grad_norm, a.stability, a.flags
from runs r left join audits a using (run_id)
where r.experiment = $experiment and r.status = 'FINISHED'
order by r.frozen_blocks, r.penalty, r.architecture, r.method, r.seed
"""

DONE = (
    "select t.value from tags t join runs r using (run_id) where t.key = 'fa.config_sha256' and r.status = 'FINISHED'"
)

HEAD = """# The published study, so far

Hao, Wan and Zhai, [arXiv:2606.21126](https://arxiv.org/abs/2606.21126), trained by its own
[definitions and recipe](explanation/methods.md#the-published-studys-recipe). The runs stand in `docs/reference-results/study/`; what
they say beside the published figures is a page to come. In the root of a clone, with the folder of the data in FA_TRACK_DATA, the
studies below go on with what the store lacks:

<!-- test: skip it takes hours -->
```sh
fa-track study run dfa_penalty --jobs 2
fa-track audit --experiment dfa_penalty_cifar10
fa-track export
python docs/reference_results.py --to docs/reference-results/study
python docs/study.py > docs/study.md
```

The last command alone writes this page from the results in the repository.
"""


def lines() -> Iterator[str]:
    yield HEAD
    with connect(RESULTS) as connection:
        done = {row[0] for row in run_sql(connection, DONE, {}).fetchall()}
        yield "## Trained\n"
        for name in ORDER:
            plan = grid.load(name)
            answer = run_sql(connection, TRAINED, {"experiment": plan.experiment})
            rows = answer.fetchall()
            if rows:
                yield f"{plan.title} (`{name}`):\n"
                yield render(run_sql(connection, TRAINED, {"experiment": plan.experiment}), "md") + "\n"
    yield "## Missing\n"
    yield "By study, in the order in which they are trained.\n"
    for name in ORDER:
        configs = grid.load(name).configs()
        missing = [config for config in configs if config.digest not in done]
        yield f"### `{name}`: {len(missing)} of {len(configs)} runs\n"
        yield from (f"- {cell}: seed {', '.join(map(str, seeds))}" for cell, seeds in by_cell(missing).items())
        yield ""


def by_cell(configs: list[RunConfig]) -> dict[str, list[int]]:
    """The seeds of each cell, by its description."""
    found: dict[str, list[int]] = defaultdict(list)
    for config in configs:
        found[grid.describe(replace(config, seed=0)).removesuffix(", seed 0")].append(config.seed)
    return found


if __name__ == "__main__":
    print("\n".join(lines()))
