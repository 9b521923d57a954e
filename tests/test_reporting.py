"""The report: every number as the database has it, every deviation said, every text as it is in three formats."""

import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from markdown_it import MarkdownIt
from mlflow import MlflowClient
from runs import log_run

from fa_tracking.cli import main
from fa_tracking.publishing.document import as_latex
from fa_tracking.publishing.publication import Table
from fa_tracking.tracking import names

REFERENCE = Path(__file__).parent.parent / "docs/reference-results"


class Report:
    """A report in Markdown, as a reader of CommonMark sees it: texts and tables by section and part."""

    def __init__(self, text: str) -> None:
        self.sections: dict[str, dict[str, list]] = {}
        tokens = iter(MarkdownIt("commonmark").enable("table").parse(text))
        section = part = ""
        for token in tokens:
            if token.type == "heading_open":
                title = plain(next(tokens))
                section, part = (section, title) if token.tag == "h3" else (title, "")
                self.sections.setdefault(section, {})
            elif token.type == "table_open":
                self.sections[section].setdefault(part, []).append(table(tokens))
            elif token.type == "inline":
                self.sections[section].setdefault(part, []).append(plain(token))

    def tables(self, section: str, part: str) -> list[pd.DataFrame]:
        return [block for block in self.sections[section][part] if isinstance(block, pd.DataFrame)]

    def texts(self, section: str, part: str = "") -> str:
        return "\n".join(block for block in self.sections[section][part] if isinstance(block, str))


def plain(token) -> str:
    assert all(child.type in ("text", "text_special", "softbreak") for child in token.children), token.content
    return "".join(child.content for child in token.children)


def table(tokens: Iterator) -> pd.DataFrame:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(plain(token))
    columns = [h if h not in rows[0][:i] else f"{h} of null" for i, h in enumerate(rows[0])]
    return pd.DataFrame(rows[1:], columns=columns)


def run_report(*args: str) -> Result:
    """In this process, in which the libraries are imported once."""
    done = CliRunner().invoke(main, ["report", *args], prog_name="fa-track")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def same_spread(text: str, values: pd.Series) -> bool:
    """Whether a text is the mean ± the sample standard deviation of one value a seed."""
    mean, sd = statistics.mean(values), statistics.stdev(values)
    found = re.fullmatch(r"\(?(\S+) ± ([^)\s]+)\)?(e[-+]\d+)?", text)
    assert found, text
    parts = [f"{found[i]}{found[3] or ''}" for i in (1, 2)]
    coarse = 10.0 ** (np.floor(np.log10(sd)) - 1)  # two digits of the standard deviation
    return all(abs(float(part) - value) <= 0.51 * coarse for part, value in zip(parts, (mean, sd), strict=True))


@pytest.fixture(scope="module")
def reference() -> Report:
    done = run_report("--experiment", "reproduction", "--db", str(REFERENCE))
    assert done.exit_code == 0, done.stderr
    return Report(done.stdout)


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(REFERENCE / f"{name}.parquet") for name in ("runs", "audits", "layers", "metrics")}


def cells(frames: dict[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The name of each cell of the reproduction, and its audited runs by seed."""
    runs = frames["runs"].merge(frames["audits"], on="run_id").query("experiment == 'reproduction'")
    for (method, epochs, penalty, frozen), rows in runs.groupby(["method", "epochs", "penalty", "frozen_blocks"]):
        name = (
            f"{method}, resmlp, cifar10, epochs = {epochs}, penalty = {penalty:g}{', frozen blocks' if frozen else ''}"
        )
        yield name, rows.sort_values("seed")


def test_every_number_of_a_cell_is_that_of_its_runs(reference: Report, frames: dict[str, pd.DataFrame]) -> None:
    sections = [s for s in reference.sections if s not in ("How it was measured", "Diagnostic report: reproduction")]
    assert sorted(sections) == sorted(name for name, _ in cells(frames))
    columns = ("max_block_growth", "deepest_grad_norm", "stability", "margin_pp", "grad_gain")
    fires = ("fires_a", "fires_b", "fires_c", "fires_d")
    by_seed = {"epoch": "epoch", "accuracy": "headline_accuracy", "(d) (pp)": "margin_pp", "gain": "grad_gain"}
    by_seed |= {"(a) growth": "max_block_growth", "‖h_L‖": "deepest_residual_norm", "(b) ‖g_L‖": "deepest_grad_norm"}
    by_seed |= {"(c) cosine": "stability"}
    for name, rows in cells(frames):
        diagnostics, seeds = reference.tables(name, "The four diagnostics")
        for (_, shown), column in zip(diagnostics.iterrows(), columns, strict=True):
            values = rows[column].dropna()
            assert int(shown["n"]) == len(values)
            if len(values):
                assert same_spread(shown["mean ± s.d."], values), (name, column)
                assert (float(shown["least"]), float(shown["greatest"])) == (
                    pytest.approx(values.min(), rel=1e-3),
                    pytest.approx(values.max(), rel=1e-3),
                )
            else:
                assert shown["mean ± s.d."] == "–"
        for flags, column in zip(diagnostics["runs it flags"], fires, strict=False):
            measured = rows[column].dropna()
            assert flags == (f"{sum(measured)} of {len(measured)}" if len(measured) else "–")
        assert list(seeds["run"]) == [run[:8] for run in rows["run_id"]]
        for heading, column in by_seed.items():
            for text, value in zip(seeds[heading], rows[column], strict=True):
                assert text == "–" if np.isnan(value) else float(text) == pytest.approx(value, rel=6e-4)
        said = reference.texts(name)
        interval = re.search(r"95% t interval ([\d.]+) to ([\d.]+)", said)
        assert interval
        half = 4.302653 * statistics.stdev(rows["headline_accuracy"]) / 3**0.5  # Student's t at 97.5 %, two degrees
        ends = [rows["headline_accuracy"].mean() + sign * half for sign in (-1, 1)]
        assert [float(end) for end in interval.groups()] == pytest.approx(ends, abs=6e-5)
        spread = re.search(r"Test accuracy: (\S+ ± \S+),", said)
        assert spread and same_spread(spread[1], rows["headline_accuracy"])


def test_gamma_by_layer_is_the_mean_over_the_seeds_beside_its_null(
    reference: Report, frames: dict[str, pd.DataFrame]
) -> None:
    seen = 0
    for name, rows in cells(frames):
        at_end = frames["layers"].merge(rows[["run_id", "epoch"]], on="run_id").query("step == epoch")
        for _, shown in reference.tables(name, "Γ by layer")[0].iterrows():
            layer = at_end[at_end["layer"] == int(shown["layer"])]
            gamma, null = layer["alignment"].dropna(), layer["alignment_null_mean"].dropna()
            assert (int(shown["n"]), int(shown["n of null"])) == (len(gamma), len(null))
            assert same_spread(shown["‖h_l‖"], layer["residual_norm"]), (name, layer)
            assert same_spread(shown["‖g_l‖"], layer["grad_norm"]), (name, layer)
            assert same_spread(shown["Γ"], gamma) if len(gamma) > 1 else shown["Γ"] == "–"
            if len(null):
                assert float(shown["null"]) == pytest.approx(null.mean(), rel=1e-3)
                assert float(shown["null s.d."]) == pytest.approx(layer["alignment_null_sd"].mean(), rel=1e-3)
            seen += len(gamma)
    assert seen > 50


def test_a_verdict_on_which_seeds_disagree_is_mixed_and_a_control_is_named_where_it_serves(
    reference: Report, frames: dict[str, pd.DataFrame]
) -> None:
    for name, rows in cells(frames):
        counts = rows["verdict"].value_counts()
        said = reference.texts(name).splitlines()[0]
        if len(counts) == 1:
            assert said == f"Verdict: {counts.index[0]} (3 of 3 runs)."
        else:
            assert said.startswith("Verdict: MIXED: ")
            assert all(f"{n} × {verdict}" in said for verdict, n in counts.items())
        named = {control for controls in rows["control_runs"] for control in controls}
        tables = reference.tables(name, "Frozen control")
        assert (set(tables[0]["run"]) if tables else set()) == named
        for _, row in tables[0].iterrows() if tables else ():
            accuracy = frames["metrics"].query("run_id == @row.run and key == 'accuracy/test'").sort_values("step")
            assert float(row["accuracy"]) == pytest.approx(accuracy["value"].iloc[-1], rel=1e-3)
    frozen = "dfa, resmlp, cifar10, epochs = 30, penalty = 0, frozen blocks"
    assert "dfa, resmlp, cifar10, epochs = 30, penalty = 0.01 (reproduction)" in reference.texts(
        frozen, "Frozen control"
    )


def test_one_run_is_found_by_the_beginning_of_its_id(frames: dict[str, pd.DataFrame]) -> None:
    run = frames["runs"].query("experiment == 'reproduction' and method == 'fa'").iloc[0]
    done = run_report("--run", run["run_id"][:10], "--db", str(REFERENCE))
    name = "fa, resmlp, cifar10"
    shown = Report(done.stdout)
    assert list(shown.tables(name, "Configuration")[1]["run"]) == [run["run_id"]]
    assert "n = 1: there is no spread" in shown.texts(name, "Deviations")
    assert "2 more runs of this cell were not asked for" in shown.texts(name, "Deviations")


NASTY = "<script>alert(1)</script> $\\input{x}$ | a_b *c* [d](e) & `f` %#~^{}\x1b"
SHOWN = NASTY.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
THRESHOLDS = {"h_norm_explosion_ratio": 50.0, "g_norm_floor": 1e-7, "stability_drift_ceiling": 0.3}
THRESHOLDS["frozen_acc_margin_pp"] = 2.0
Make = Callable[..., str]


@pytest.fixture(scope="module")
def deviating(workspace: Path) -> dict[str, str]:
    """A database of one cell in which everything that can depart does; its runs by what is wrong with them."""
    client = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")

    def make(accuracy: float, audited: bool = True, home: str = "odd", **changes: object) -> str:
        tags = {str(k): str(v) for k, v in dict(changes.pop("tags", {})).items()}  # type: ignore[call-overload]
        measured = {"epoch": 2, "max_block_growth": 2.0, "deepest_grad_norm": 1e-3, "stability": 0.1}
        measured |= {"headline_accuracy": accuracy, "control_accuracy": 0.3, "margin_pp": 100 * (accuracy - 0.3)}
        measured |= dict(changes.pop("measured", {}))  # type: ignore[call-overload]
        measured.setdefault("fired", {"n": False, "a": False, "b": False, "c": False, "d": False})
        status = str(changes.pop("status", "FINISHED"))
        ended = int(changes.pop("ended", 1_700_000_000_000))  # type: ignore[call-overload]
        params = {"method": NASTY, "seed": 1, "epochs": 2, "lr": 0.1, "frozen_blocks": False, "note": NASTY, **changes}
        audit = {names.TAG_VERDICT: "trustworthy", names.TAG_FLAGS: "", names.TAG_EVIDENCE: "full"}
        audit |= {names.TAG_THRESHOLDS: json.dumps(THRESHOLDS), names.TAG_MEASURED: json.dumps(measured)}
        audit |= {names.TAG_AUDITED_AT: "2023-11-15T00:00:00+00:00", names.TAG_PROTOCOL_VERSION: "1.0"}
        about = {"name": NASTY, "status": status, "started": ended - 1000, "ended": ended}
        tags = {**(audit if audited else {}), **tags}
        return log_run(client, home, {2: {names.ACCURACY_TEST: accuracy}}, tags=tags, **about, **params)  # type: ignore[arg-type]

    control = make(0.3, home="elsewhere", frozen_blocks=True, lr=0.2)
    named = {names.TAG_CONTROL_RUNS: control}
    given, strict = '{"control_accuracy": 0.3}', json.dumps(THRESHOLDS | {"g_norm_floor": 1})
    runs = {
        "control": control,
        "whole": make(0.5, seed=1, tags=named),
        "again": make(0.7, seed=1, tags=named),
        "second": make(0.8, seed=2, tags={**named, names.TAG_VERDICT: "needs walk-back: x", names.TAG_FLAGS: "a"}),
        "short": make(0.6, seed=3, tags=named, measured={"epoch": 1}),
        "unaudited": make(0.9, audited=False, seed=4),
        "failed": make(0.9, audited=False, seed=5, status="FAILED"),
        "aborted": make(0.1, seed=6, tags={**named, names.TAG_ABORTED_AT: "1", names.TAG_ABORTED_FOR: "a"}),
        "diverged": make(0.1, seed=7, tags=named, measured={"stability": "NaN", "fired": {"n": True}}),
        "partial": make(0.5, seed=8, tags={names.TAG_EVIDENCE: "partial", names.TAG_GIVEN: given}),
        "late": make(0.5, seed=9, tags=named, ended=1_800_000_000_000),
        "strict": make(0.5, seed=10, tags={**named, names.TAG_THRESHOLDS: strict}),
        "lost": make(0.5, seed=11, tags={names.TAG_CONTROL_RUNS: "0" * 32}),
        "alone": make(0.5, seed=12, measured={"control_accuracy": None, "margin_pp": None}),
    }
    done = CliRunner().invoke(main, ["export"], prog_name="fa-track")
    assert done.exit_code == 0, done.output
    return runs


def test_every_deviation_is_said_with_its_run(deviating: Mapping[str, str]) -> None:
    shown = Report(run_report("--experiment", "odd").stdout)
    lines = shown.texts(SHOWN, "Deviations").splitlines()
    expected = {
        "short": "was planned for 2 epochs and is measured at epoch 1",
        "unaudited": "was not audited, and is in no number",
        "failed": "is FAILED, and is in no number",
        "aborted": "was aborted at epoch 1 of 2 for a, and is in no number",
        "diverged": "diverged: a measurement is not finite",
        "late": "has logged an epoch since its audit",
        "strict": "the threshold g_norm_floor is 1, not the protocol's 1e-07",
        "lost": "Γ is missing in",
        "control": "differs in lr (0.2, not 0.1)",
        "alone": "there was no frozen control at the audit of",
    }
    for which, says in expected.items():
        assert any(says in line and deviating[which][:8] in line for line in lines), (which, lines)
    partial = [line for line in lines if deviating["partial"][:8] in line]
    assert any("judged on partial evidence" in line for line in partial)
    assert any("given by hand: control_accuracy = 0.3" in line for line in partial)
    assert any("the control accuracy of" in line and "no run of the store" in line for line in partial)
    assert "seed 1 has 2 runs, which are averaged before the seeds are" in lines
    assert "control runs stand in another experiment: elsewhere" in lines
    assert f"the database does not hold the control runs {'0' * 32}" in lines
    whole = Report(run_report("--run", deviating["whole"], "--run", deviating["second"]).stdout)
    assert not any(deviating[which][:8] in whole.texts(SHOWN, "Deviations") for which in ("short", "late", "strict"))


def test_a_mean_is_of_the_seeds_that_count_and_the_verdict_of_all_that_ended(deviating: Mapping[str, str]) -> None:
    shown = Report(run_report("--experiment", "odd").stdout)
    verdict, others, accuracy = shown.texts(SHOWN).splitlines()
    assert "1 × trustworthy (other thresholds)" in verdict and "judged under others than the protocol's" in others
    assert verdict.startswith("Verdict: MIXED: 7 × trustworthy, 1 × needs walk-back: x, 1 × not audited, 1 × trustw")
    values = [statistics.mean([0.5, 0.7]), 0.8, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5]  # seeds 1 to 3 and 8 to 12
    spread = re.search(r"Test accuracy: (\S+ ± \S+), a share in \[0, 1\] \(n = 8,", accuracy)
    assert spread and same_spread(spread[1], pd.Series(values))
    assert "frozen control: 0.3 (n = 1)" in accuracy and "pp (n = 7)" in accuracy
    seeds = shown.tables(SHOWN, "The four diagnostics")[1]
    by_run = seeds.set_index("run")
    assert by_run.loc[deviating["diverged"][:8], "(c) cosine"] == "NaN"
    assert by_run.loc[deviating["unaudited"][:8], "flags"] == "not audited"
    assert by_run.loc[deviating["alone"][:8], "(d) (pp)"] == "–"
    assert deviating["failed"][:8] not in by_run.index


def test_partial_evidence_is_said_once_and_its_bounds_and_proxies_stand_by_seed(uri: str) -> None:
    client = MlflowClient(uri)
    home = client.create_experiment("imported")
    for seed in (1, 2):
        run_id = client.create_run(home).info.run_id
        for key, value in {"method": "dfa", "depth": 4, "seed": seed}.items():
            client.log_param(run_id, key, value)
        logged = {"residual_norm/h0": 8.7, "residual_norm/h4": 5e8, "grad_norm/g2": 4e-9 if seed == 1 else 4e-6}
        for key, number in (logged | {"accuracy/test": 0.3 if seed == 1 else 0.1 + 0.2}).items():
            client.log_metric(run_id, key, number, step=1)
        client.set_terminated(run_id)
    healthy = client.create_run(home).info.run_id
    client.log_param(healthy, "method", "bp")
    client.log_metric(healthy, "grad_norm/g2", 1e-3, step=1)
    client.set_terminated(healthy)
    for command in (["audit", "--experiment", "imported"], ["export"]):
        done = CliRunner().invoke(main, command, prog_name="fa-track")
        assert done.exit_code == 0, done.output
    shown = Report(run_report("--experiment", "imported").stdout)
    assert "how they were taken" in shown.texts("How it was measured")
    bp, dfa = (next(s for s in shown.sections if s.startswith(method)) for method in ("bp", "dfa"))
    assert shown.texts(bp).lower().count("partial evidence") == 1 and "(1 of 1 runs)" in shown.texts(bp)
    assert shown.texts(dfa).count("(partial evidence)") == 2
    assert "Test accuracy: 0.3 ± 0, a share" in shown.texts(dfa)
    diagnostics, seeds = shown.tables(dfa, "The four diagnostics")
    assert list(diagnostics["n"][:2]) == ["0", "0"] and diagnostics["runs it flags"][0] == "2 of 2"
    assert "bounds and proxies stand in the verdict" in shown.texts(dfa, "The four diagnostics")
    assert list(seeds["(a) growth"]) == ["≥87.07"] * 2 and list(seeds["(b) ‖g_L‖"]) == ["~4e-09", "~4e-06"]
    latex_text = run_report("--experiment", "imported", "--format", "latex").stdout
    assert r"$\geq$87.07" in latex_text and r"\textasciitilde{}4e-09" in latex_text


def test_complete_evidence_has_no_word_on_partial(reference: Report) -> None:
    assert "partial evidence" not in reference.texts("How it was measured")
    assert all("bounds" not in reference.texts(s, "The four diagnostics") for s in reference.sections if "," in s)


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.open += [] if tag == "meta" else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_name_stands_in_every_format_as_it_is(deviating: Mapping[str, str], workspace: Path) -> None:
    shown = Report(run_report("--experiment", "odd").stdout)
    params, runs = shown.tables(SHOWN, "Configuration")
    assert params.set_index("param").loc["note", "value"] == SHOWN
    assert set(runs["name"]) == {SHOWN}

    done = run_report("--experiment", "odd", "--format", "html", "-o", "odd.html")
    assert (done.exit_code, done.stdout) == (0, "")
    page = Seen((workspace / "odd.html").read_text(encoding="utf-8"))
    assert page.open == [] and "script" not in page.tags and {"h2", "table", "li"} <= set(page.tags)
    assert page.texts.count(SHOWN) == 1 + 2 + 13  # the heading, two params, and the runs


def test_latex_is_balanced_and_nothing_of_a_name_is_a_command(deviating: Mapping[str, str]) -> None:
    text = run_report("--experiment", "odd", "--format", "latex").stdout
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    opened: list[str] = []
    for which, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if which == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == [] and body.count(r"\begingroup") == body.count(r"\endgroup") == body.count(r"\toprule") / 2
    bare = re.sub(r"\\[\\%#&${}_]", "", body)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"[%#~]|(?<!\^)\^(?!\{)|\\input|(?m:^\s*[\[*])", re.sub(r"\$[^$]*\$", "", bare))
    assert not re.search("[^\x00-\x7f]", bare), "letters that pdfLaTeX may lack"
    for columns, content in re.findall(r"\\begin\{longtable\}\{(.*)\}\n((?s:.*?))\\end\{longtable\}", body):
        wanted = len(re.findall(r"[lrp]", re.sub(r"\{[^}]*\}", "", columns)))
        rows = [line for line in content.splitlines() if line.endswith(r" \\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {wanted - 1}
        assert len(rows) > 2


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([], 2, "several experiments, choose one by --experiment"),
        (["--experiment", "odd", "--run", "x"], 2, "--experiment and --run contradict each other"),
        (["--experiment", "nope"], 2, "holds no experiment 'nope'"),
        (["--run", "nope"], 2, "holds no run 'nope'"),
        (["--run", ""], 2, "runs begin with ''"),
        (["--run", "x", "--db", "nowhere.duckdb"], 2, "there is no database nowhere.duckdb"),
        (["--experiment", "odd", "-o", "nowhere/x.md"], 2, "the folder nowhere does not exist"),
    ],
)
def test_bad_input_gets_one_line_and_its_exit_code(
    deviating: Mapping[str, str], workspace: Path, args: list[str], code: int, says: str
) -> None:
    before = set(workspace.iterdir())
    done = run_report(*args)
    assert (done.exit_code, says in done.stderr.splitlines()[-1]) == (code, True), done.stderr
    assert (done.stdout, set(workspace.iterdir())) == ("", before)


def test_a_row_of_latex_is_no_argument_of_the_row_above() -> None:
    text = as_latex([Table("c", ["h"], [["x"], ["[1cm]"], ["*"]], [False])])
    assert [line.strip() for line in text.splitlines() if line.endswith(r" \\")][-2:] == [r"{}[1cm] \\", r"{}* \\"]
