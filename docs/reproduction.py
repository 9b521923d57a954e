"""Writes docs/reproduction.md: what came out, beside docs/published.toml. Every number of ours is asked of a database.

python docs/reproduction.py [--db DATABASE] > docs/reproduction.md
"""

import argparse
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reproduction_values import VALUES

from fa_tracking import markdown
from fa_tracking.publishing.tables import render
from fa_tracking.results.database import connect, find_query, run_sql

HERE = Path(__file__).parent
REFERENCE = HERE / "reference-results"

Rows = list[dict[str, Any]]
Lines = list[Sequence[object]]
"""The lines of a table, its headings first."""

AUDITED = """
select r.*, a.verdict, a.flags, a.fires_a, a.fires_b, a.fires_c, a.fires_d, a.headline_accuracy as accuracy, a.margin_pp,
    a.control_accuracy, a.max_block_growth as growth, a.deepest_residual_norm as h_norm, a.deepest_grad_norm as g_norm,
    a.stability, a.epoch as audited_epoch,
    (select max(m.value) from metrics m where m.run_id = r.run_id and m.key = 'accuracy/train' and m.step = a.epoch)
        as accuracy_train
from runs r join audits a using (run_id)
where r.status = 'FINISHED'
"""

CELL = """
select {by}, count(*) as n, avg(accuracy) as accuracy, stddev_samp(accuracy) as accuracy_sd, avg(margin_pp) as margin_pp,
    median(growth) as growth, median(g_norm) as g_norm, avg(stability) as stability,
    array_to_string(list_sort(list(distinct coalesce(nullif(flags, ''), 'none'))), ' or ') as flags
from audited where {where} group by {by} order by {by}
"""

FIRST_FLAG = """
select f.architecture, f.method, f.seed, f.growth_epoch, f.grad_floor_epoch, f.final_epoch, f.accuracy_at_first,
    f.final_accuracy,
    (select min(m.step) from metrics m
        where m.run_id = f.run_id and m.key = 'diagnostics/deepest_grad_norm' and m.value * 128 / 1280 < 1e-7)
        as grad_floor_at_1280
from ({query}) f
where f.method in ('bp', 'dfa') and not f.frozen_blocks and f.penalty = 0 and f.augmentation = 'none' and f.width in (128, 256)
    and f.final_epoch > 0
"""

ALIGNMENT = """
select r.method, r.penalty, r.seed, l.layer, l.alignment, l.alignment_null_mean as null_mean,
    l.alignment_null_sd as null_sd
from runs r join layers l using (run_id)
where r.experiment = 'reproduction' and not r.frozen_blocks and r.seed = 42 and r.method <> 'bp' and l.step = r.epochs
order by r.method, r.penalty, l.layer
"""

TIMES = """
select r.method, count(distinct r.run_id) as runs, median(m.value) as seconds_per_epoch
from runs r join metrics m using (run_id)
where m.key = 'time/epoch_seconds' and r.experiment = 'reproduction' and not r.frozen_blocks and r.penalty = 0
group by r.method order by r.method
"""


class Results:
    """Answers as rows of dicts, from a database with a view ``audited``."""

    def __init__(self, database: str) -> None:
        self._connection = connect(database)

    def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> Rows:
        relation = run_sql(self._connection, f"with audited as ({AUDITED}) select * from ({sql})", params)
        return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]

    def table(self, sql: str) -> str:
        return render(run_sql(self._connection, f"with audited as ({AUDITED}) select * from ({sql})"), "md")

    def cells(self, by: str, where: str) -> Rows:
        return self.rows(CELL.format(by=by, where=where))

    def first_flags(self) -> Rows:
        experiments = [row["experiment"] for row in self.rows("select distinct experiment from audited order by 1")]
        sql = FIRST_FLAG.format(query=find_query("first_flag").sql.rstrip().rstrip(";"))
        return [row for name in experiments for row in self.rows(sql, {"experiment": name})]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--db", default=str(REFERENCE))
    results = Results(arguments.parse_args().db)
    published = tomllib.loads((HERE / "published.toml").read_text())
    page = (HERE / "reproduction.template.md").read_text()
    parts = {name: part(results, published) for name, part in PARTS.items()}
    parts |= {name: _value(results, sql, form) for name, (sql, form) in VALUES.items()}
    parts |= _flat(published, "published")
    for name, text in parts.items():
        page = page.replace("{{" + name + "}}", text)
    if left := re.findall(r"{{.*?}}", page):
        raise SystemExit(f"reproduction.template.md asks for what is not there: {', '.join(left)}")
    print(page, end="")


def _value(results: Results, sql: str, form: str) -> str:
    """A single number of the text; "not run" where nothing holds it."""
    found = results.rows(sql)
    value = next(iter(found[0].values())) if found else None
    return "not run" if value is None else format(value, form)


def _flat(table: dict[str, Any], name: str) -> dict[str, str]:
    """Every published figure by its path, such as published.resmlp.bp.accuracy."""
    found = {}
    for key, value in table.items():
        found |= _flat(value, f"{name}.{key}") if isinstance(value, dict) else {f"{name}.{key}": str(value)}
    return found


def verdicts(results: Results, published: dict[str, Any]) -> str:
    rows: Lines = [
        [
            "method",
            "seed",
            "epochs",
            "accuracy",
            "‖h_L‖",
            "growth (a)",
            "‖g_L‖ (b)",
            "(c)",
            "margin (d)",
            "flags",
            "published",
            "",
        ]
    ]
    for row in _main_runs(results):
        said = published["resmlp"][row["method"]]
        cells = [
            row["method"], row["seed"], row["audited_epoch"], f"{row['accuracy']:.3f}", _power(row["h_norm"]),
            _short(row["growth"]), _power(row["g_norm"]), f"{row['stability']:.2f}",
            _pp(row["margin_pp"]),
            _flags(row["flags"]), _flags(",".join(said["flags"])), _agreement(row, said),
        ]  # fmt: skip
        rows.append(cells)
    return _table(rows)


def agreement(results: Results, published: dict[str, Any]) -> str:
    runs = [(row, published["resmlp"][row["method"]]) for row in _main_runs(results)]
    agree = sum(_agreement(row, said).startswith("agrees") for row, said in runs)
    exact = sum(row["margin_pp"] is not None and row["flags"].replace(",", "") == said["flags"] for row, said in runs)
    return (
        f"{agree} of {len(runs)} verdicts agree on the diagnostics for which the publication gives one and that were "
        f"measured here. {exact} have all four measured and exactly the published flags"
    )


def _main_runs(results: Results) -> Rows:
    return results.rows(
        "select * from audited where experiment = 'reproduction' and not frozen_blocks and penalty = 0 "
        "order by case method when 'bp' then 0 when 'fa' then 1 when 'dfa' then 2 when 'state_bridge' then 3 "
        "when 'credit_bridge' then 4 else 5 end, seed"
    )


def _agreement(row: dict[str, Any], said: dict[str, Any]) -> str:
    """In words, diagnostic by diagnostic of those that the publication has."""
    differ, unmeasured = [], []
    for letter in said["compared"]:
        fires = row[f"fires_{letter}"]
        if fires is None:
            unmeasured.append(letter)
        elif fires != (letter in said["flags"]):
            differ.append(f"({letter}) {'fires' if fires else 'does not fire'}")
    rest = f"; ({', '.join(unmeasured)}) not measured" if unmeasured else ""
    if differ:
        return f"differs: {', '.join(differ)}{rest}"
    return f"agrees on {' '.join(f'({x})' for x in said['compared'] if x not in unmeasured)}{rest}"


def beside(results: Results, published: dict[str, Any]) -> str:
    rows: Lines = [["method", "n", "accuracy here", "published", "‖g_L‖ here", "published", "(c) here", "published"]]
    where = "experiment = 'reproduction' and not frozen_blocks and penalty = 0"
    for row in results.cells("method", where):
        said = published["resmlp"][row["method"]]
        cells = [row["method"], row["n"], _spread(row), said["accuracy"], _power(row["g_norm"])]
        cells += [said["deepest_grad_norm"], f"{row['stability']:.2f}", said.get("stability", "")]
        rows.append(cells)
    return _table(rows)


def random_init(results: Results, published: dict[str, Any]) -> str:
    said = published["random_init"]
    rows: Lines = [["", "accuracy", "‖h_L‖", "‖g_L‖", "(c)", "flags"]]
    stated = [said["accuracy"], said["deepest_residual_norm"], said["deepest_grad_norm"], said["stability"]]
    rows.append(["published", *stated, _flags(said["flags"])])
    for row in results.rows(
        "select * from audited where epochs = 0 and dataset = 'cifar10' and width = 256 order by seed"
    ):
        cells = [f"seed {row['seed']}", f"{row['accuracy']:.3f}", _short(row["h_norm"]), _power(row["g_norm"])]
        rows.append([*cells, f"{row['stability']:.2f}", _flags(row["flags"])])
    return _table(rows)


def first_flag(results: Results, published: dict[str, Any]) -> str:
    rows: Lines = [
        [
            "network",
            "seed",
            "epochs run",
            "(a) first",
            "published",
            "(b) first",
            "(b) at B = 1,280",
            "published",
            "accuracy then",
            "at the end",
        ]
    ]
    seen = set()
    for row in sorted(results.first_flags(), key=lambda r: (r["architecture"], r["method"], r["seed"])):
        name = f"{row['architecture']} {row['method']}"
        if name not in published["first_flag"] or (name, row["seed"]) in seen:
            continue
        seen.add((name, row["seed"]))
        said = published["first_flag"][name]
        cells = [name, row["seed"], row["final_epoch"], _never(row["growth_epoch"]), said["growth"]]
        cells += [_never(row["grad_floor_epoch"]), _never(row["grad_floor_at_1280"]), said["grad_floor"]]
        cells += [_number(row["accuracy_at_first"], ".3f")]
        rows.append([*cells, _number(row["final_accuracy"], ".3f")])
    return _table(rows)


def penalty(results: Results, published: dict[str, Any]) -> str:
    rows: Lines = [["method", "λ", "n", "accuracy", "margin (d)", "growth", "‖g_L‖", "flags", "published"]]
    where = (
        "method in ('bp', 'dfa') and architecture = 'resmlp' and width = 256 and dataset = 'cifar10' and epochs = 30 "
        "and not frozen_blocks and augmentation = 'none'"
    )
    for row in results.cells("method, penalty", where):
        cells = [row["method"], f"{row['penalty']:g}", row["n"], _spread(row), _pp(row["margin_pp"])]
        cells += [_short(row["growth"]), _power(row["g_norm"]), row["flags"].replace(",", " ")]
        rows.append([*cells, published["penalty"].get(f"{row['method']} {row['penalty']:g}", "")])
    return _table(rows)


def frozen(results: Results, published: dict[str, Any]) -> str:
    rows: Lines = [["frozen blocks", "epochs", "n", "accuracy", "published"]]
    where = "frozen_blocks and architecture = 'resmlp' and width = 256 and dataset = 'cifar10'"
    for row in results.cells("method, epochs", where):
        cells = [row["method"], row["epochs"], row["n"], _spread(row), published["frozen"].get(row["method"], "")]
        rows.append(cells)
    return _table(rows)


def knocked_out(results: Results, _: dict[str, Any]) -> str:
    return results.table(
        "select method, penalty, count(*) as n, avg(whole) as whole, avg(without_all) as without_any_block, "
        "min(worst_single) as lowest_without_one from (" + _catalogued("block_knockout", "reproduction") + ") "
        "where not frozen_blocks group by all order by all"
    ).rstrip()


def aligned(results: Results, published: dict[str, Any]) -> str:
    rows: Lines = [["method", "λ", "layer", "Γ", "null of fresh feedback", "published"]]
    for row in results.rows(ALIGNMENT):
        name = row["method"] + (f" {row['penalty']:g}" if row["penalty"] else "")
        null = "" if row["null_mean"] is None else f"{row['null_mean']:+.3f} ± {_number(row['null_sd'], '.3f')}"
        gamma = "below the floor" if row["alignment"] is None else f"{row['alignment']:+.3f}"
        said = published["alignment"].get(name, "") if row["layer"] == 3 else ""
        rows.append([row["method"], f"{row['penalty']:g}", row["layer"], gamma, null, said])
    return _table(rows)


def wide(results: Results, published: dict[str, Any]) -> str:
    rows: Lines = [["network", "method", "epochs", "accuracy", "growth (a)", "‖g_L‖ (b)", "(c)", "flags", "published"]]
    for row in results.rows(
        "select * from audited where experiment = 'reproduction_wide' order by architecture, method"
    ):
        network = "width_512" if row["architecture"] == "resmlp" else row["architecture"]
        said = published.get(network, {}).get(row["method"], "")
        cells = [network, row["method"], row["audited_epoch"], f"{row['accuracy']:.3f}", _short(row["growth"])]
        rows.append([*cells, _power(row["g_norm"]), f"{row['stability']:.2f}", _flags(row["flags"]), said])
    return _table(rows)


def causes(results: Results, _: dict[str, Any]) -> str:
    rows: Lines = [["run", "seed", "epochs", "accuracy, test", "training", "growth", "‖g_L‖", "(c)", "flags"]]
    for row in results.rows(
        "select * from audited where architecture = 'resmlp' and width = 256 and dataset = 'cifar10' and seed = 42 "
        "and epochs > 0 and not frozen_blocks and penalty = 0 "
        "order by method, augmentation desc, epochs"
    ):
        name = row["method"] + ("" if row["augmentation"] == "none" else f", {row['augmentation']}")
        cells = [
            name,
            row["seed"],
            row["audited_epoch"],
            f"{row['accuracy']:.3f}",
            _number(row["accuracy_train"], ".3f"),
        ]
        cells += [_short(row["growth"]), _power(row["g_norm"]), f"{row['stability']:.2f}", _flags(row["flags"])]
        rows.append(cells)
    return _table(rows)


def epochs_run(results: Results, _: dict[str, Any]) -> str:
    """How many runs there are of each length, in a sentence."""
    counted = results.rows(
        "select experiment, epochs, count(*) as n from runs where status = 'FINISHED' and dataset <> 'digit_pairs' "
        "group by all order by all"
    )
    parts = [
        f"{row['n']} {'run' if row['n'] == 1 else 'runs'} of {row['epochs']} epochs in `{row['experiment']}`"
        for row in counted
    ]
    return f"There are {', '.join(parts)}."


def times(results: Results, _: dict[str, Any]) -> str:
    return results.table(TIMES).rstrip()


PARTS: dict[str, Callable[[Results, dict[str, Any]], str]] = {
    "verdicts": verdicts,
    "agreement": agreement,
    "beside": beside,
    "random_init": random_init,
    "first_flag": first_flag,
    "penalty": penalty,
    "frozen": frozen,
    "knockout": knocked_out,
    "alignment": aligned,
    "wide": wide,
    "causes": causes,
    "times": times,
    "epochs_run": epochs_run,
}


def _catalogued(name: str, experiment: str) -> str:
    return find_query(name).sql.rstrip().rstrip(";").replace("$experiment", f"'{experiment}'")


def _table(rows: Lines) -> str:
    """The rows as Markdown, of which the first has the headings."""
    head, *below = [[str(cell) for cell in row] for row in rows]
    return markdown.table(head, below, is_markdown=True).rstrip()


def _spread(row: dict[str, Any]) -> str:
    return f"{row['accuracy']:.3f}" + ("" if row["accuracy_sd"] is None else f" ± {row['accuracy_sd']:.3f}")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.1e}"


def _power(value: float) -> str:
    return f"{value:.1e}"


def _pp(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.1f} pp"


def _never(epoch: int | None) -> object:
    return "never" if epoch is None else epoch


def _flags(letters: str) -> str:
    return " ".join(f"({x})" for x in letters.split(",") if x) or "none"


if __name__ == "__main__":
    main()
