"""Partial evidence: the verdict from some of the numbers, the audit of runs without a checkpoint, and the replay."""

import json
import math
import re
import shutil
import statistics
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner, Result
from conftest import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from runs import log_run

import fa_tracking
from fa_tracking import DiagnosticReport, DiagnosticThresholds
from fa_tracking.auditor.write import Finding, write
from fa_tracking.cli import main
from fa_tracking.protocol.knockout import Knockout
from fa_tracking.protocol.report import PartialReport
from fa_tracking.protocol.table import Reference
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.export.export import export
from fa_tracking.trainers.tracked import train

OLD = {"residual_norms": {0: 8.7, 4: 5e8}, "bp_grad_norms": {2: 4e-9}, "depth": 4}
OLD |= {"cross_batch_stability": None, "headline_acc": 0.306, "frozen_baseline_acc": 0.349}

norms = st.floats(min_value=0.0) | st.sampled_from([math.nan, math.inf, 50.0, 1e-7, 0.0])
usual_norms = st.floats(min_value=1e-12, max_value=1e12)
cosines = st.floats(-1, 1)


def partial(**changes: Any) -> PartialReport:
    return PartialReport.from_layers(**{"method_name": "dfa", "notes": "", **OLD, **changes})


@given(
    h=st.lists(norms, min_size=2, max_size=6),
    g=st.lists(norms, min_size=2, max_size=6),
    gain=st.none() | norms,
    stability=cosines | st.just(math.nan),
    accuracy=st.floats(0, 1),
    frozen=st.none() | st.floats(0, 1),
)
def test_with_every_number_it_says_what_the_whole_report_says(
    h: list[float], g: list[float], gain: float | None, stability: float, accuracy: float, frozen: float | None
) -> None:
    size = min(len(h), len(g))
    h, g = h[:size], g[:size]
    whole = DiagnosticReport("", "", h, g, (size - 1) // 2, stability, accuracy, frozen, grad_gain=gain)
    part = PartialReport.from_layers(
        dict(enumerate(h)),
        dict(enumerate(g)),
        size - 1,
        method_name="",
        notes="",
        cross_batch_stability=stability,
        headline_acc=accuracy,
        frozen_baseline_acc=frozen,
        grad_gain=gain,
    )
    assert (part.flags, part.verdict) == (whole.flags, whole.verdict)
    shared = {"max_per_block_growth", "margin_pp", "kinds", "residual_norms", "bp_grad_norms", "stability_layer"}
    assert {k: part.to_dict()[k] for k in shared} == {k: whole.to_dict()[k] for k in shared}
    again = PartialReport.from_dict(json.loads(json.dumps(part.to_dict(), allow_nan=False)))
    assert (again.verdict, again.kinds) == (part.verdict, part.kinds)


@settings(max_examples=300)
@given(data=st.data(), depth=st.integers(1, 6))
def test_dropping_numbers_never_makes_a_flagged_report_trustworthy(data: st.DataObject, depth: int) -> None:
    layers = range(depth + 1)
    h, g = ([data.draw(usual_norms) for _ in layers] for _ in range(2))
    gain, stability = data.draw(st.none() | usual_norms), data.draw(cosines)
    accuracy, frozen = data.draw(st.floats(0, 1)), data.draw(st.none() | st.floats(0, 1))
    whole = DiagnosticReport("", "", h, g, depth // 2, stability, accuracy, frozen, grad_gain=gain)
    kept_h, kept_g = ({n: norm[n] for n in layers if data.draw(st.booleans())} for norm in (h, g))
    keep = data.draw(st.fixed_dictionaries({k: st.booleans() for k in ("depth", "growth", "deepest", "c", "gain")}))
    part = PartialReport.from_layers(
        kept_h,
        kept_g,
        depth if keep["depth"] else None,
        deepest_grad_norm=g[-1] if keep["deepest"] else None,
        method_name="",
        notes="",
        max_block_growth=whole.max_per_block_growth if keep["growth"] else None,
        cross_batch_stability=stability if keep["c"] else None,
        grad_gain=gain if keep["gain"] else None,
        headline_acc=accuracy,
        frozen_baseline_acc=frozen,
    )
    if part.verdict == "trustworthy":
        assert whole.verdict == "trustworthy"
        assert part.kinds.items() >= {"a": "exact", "b": "exact", "c": "exact"}.items()
    growth = part.max_per_block_growth
    if part.kinds["a"] == "exact":
        assert growth == whole.max_per_block_growth
    elif part.kinds["a"] == "bound":
        pairs = combinations(sorted(kept_h), 2)
        assert growth == pytest.approx(max((h[m] / h[n]) ** (1 / (m - n)) for n, m in pairs), rel=1e-9)
        assert growth <= whole.max_per_block_growth * (1 + 1e-12)
    else:
        assert growth is None and len(kept_h) < 2
    exact_b = keep["deepest"] or (keep["depth"] and depth in kept_g)
    assert part.kinds["b"] == ("exact" if exact_b else "proxy" if kept_g else "not measured")


def test_an_old_log_is_walked_back_or_inconclusive_in_the_protocols_words() -> None:
    fired = partial()
    assert fired.verdict == (
        "needs walk-back: residual stream exploded; BP grad at numerical floor (by proxy ‖g_2‖); "
        "deep blocks fail to beat frozen-random baseline"
    )
    assert fired.max_per_block_growth == pytest.approx((5e8 / 8.7) ** 0.25)
    passed = partial(residual_norms={0: 8.7, 4: 4e4}, bp_grad_norms={2: 1e-6}, headline_acc=0.39)
    assert passed.verdict == (
        "inconclusive: partial evidence: (a) likely pass; (b) pass by proxy ‖g_2‖; (c) not measured; (d) pass"
    )
    diverged = partial(residual_norms={0: 8.7, 4: math.nan}, bp_grad_norms={}, headline_acc=None)
    assert diverged.verdict == "needs walk-back: measurement is not finite"
    assert "by proxy ‖g_2‖" in str(fired) and "‖h_0‖ … ‖h_L‖: 8.7  ?  ?  ?  5e+08" in str(fired)
    confident = partial(residual_norms={}, bp_grad_norms={2: 1e-8}, grad_gain=1e-3, headline_acc=None)
    assert confident.flags == () and "small gradient explained by small error" in str(confident)


def log_old(
    uri: str,
    experiment: str,
    by_epoch: Mapping[int, Mapping[str, float]],
    by_hand: Mapping[str, float] | None = None,
    status: str = "FINISHED",
    **params: object,
) -> str:
    """Log a run, some numbers of which were given by hand, as an import does."""
    tags = {"fa.given": json.dumps(by_hand)} if by_hand else {}
    return log_run(uri, experiment, by_epoch, tags=tags, status=status, **params)


BY_HAND = {"h0_norm": 8.7, "control_accuracy": 0.349, "grad_batch": 512}
COLLAPSED = {1: (20.0, 1e-4, 0.2), 2: (5e8, 4e-9, 0.306)}
HEALTHY = {1: (20.0, 1e-4, 0.2), 2: (4e4, 1e-6, 0.39)}


def old(series: Mapping[int, tuple[float, float, float]]) -> dict[int, dict[str, float]]:
    return {
        epoch: {"residual_norm/h4": h, "grad_norm/g2": g, "accuracy/test": accuracy}
        for epoch, (h, g, accuracy) in series.items()
    }


def test_a_run_without_checkpoint_is_audited_by_what_it_logged(uri: str, workspace: Path) -> None:
    params = {"method": "dfa", "depth": 4, "seed": 1, "epochs": 2}
    collapsed = log_old(uri, "old", old(COLLAPSED) | {3: {"accuracy/test": 0.306}}, BY_HAND, **params)
    healthy = log_old(uri, "old", old(HEALTHY), BY_HAND, penalty=0.01, **params)
    infinite = log_old(uri, "old", {1: {"residual_norm/h4": math.inf}}, {"h0_norm": 8.7}, **params)
    bare = log_old(uri, "old", {1: {"accuracy/test": 0.3}}, **params)
    negative = log_old(uri, "old", {1: {"residual_norm/h4": -3.0}}, **params)

    done = CliRunner().invoke(main, ["audit", "--experiment", "old", "--tracking-uri", uri])
    assert done.exit_code == 1, done.output
    problems = [line for line in done.stderr.splitlines() if line.startswith((bare, negative))]
    assert len(problems) == 2 and "no checkpoint" in problems[0] and "a norm is not negative" in problems[1]
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "≥87.07" in done.stdout and "~4e-09" in done.stdout and "⚑ a b d partial" in done.stdout

    client = MlflowClient(uri)
    tags = client.get_run(collapsed).data.tags
    assert tags["fa.evidence"] == "partial" and tags["fa.flags"] == "a,b,d"
    assert "(by proxy ‖g_2‖)" in tags["fa.verdict"] and tags["fa.verdict"] in tags["mlflow.note.content"]
    assert "fa.checkpoint_sha256" not in tags
    measured = json.loads(tags["fa.measured"])
    assert measured["kinds"] == {"a": "bound", "b": "proxy", "c": "not measured", "d": "exact"}
    assert measured["inexact"] == {"a": pytest.approx((5e8 / 8.7) ** 0.25), "b": 4e-9}
    assert measured["max_block_growth"] is measured["deepest_grad_norm"] is measured["stability"] is None
    assert (measured["epoch"], measured["margin_pp"]) == (2, pytest.approx(-4.3))
    assert measured["fired"] == {"n": False, "a": True, "b": True, "c": None, "d": True}
    assert json.loads(client.get_run(healthy).data.tags["fa.measured"])["fired"]["a"] is None
    assert client.get_run(infinite).data.tags["fa.flags"] == "n,a"

    folder = Path(client.download_artifacts(collapsed, "audit", str(workspace)))
    kept = PartialReport.from_dict(json.loads((folder / "report.json").read_text()))
    assert kept.verdict == tags["fa.verdict"] and kept.given == BY_HAND
    for name in ("report.txt", "report.html"):
        text = (folder / name).read_text()
        assert "deepest gradient norm: proxy" in text and "‖h_0‖ = 8.7" in text and "given by hand" in text

    export("old.duckdb", uri)
    with connect("old.duckdb") as connection:
        rows = ask(connection, find_query("audit_table"), "old").df().set_index("run_id")
        assert rows.loc[healthy, "verdict"] == client.get_run(healthy).data.tags["fa.verdict"]
        assert math.isnan(rows.loc[collapsed, "growth"]) and rows.loc[collapsed, "flags"] == "a,b,d"


def test_a_run_whose_checkpoint_is_gone_keeps_its_flags_on_the_numbers_that_it_logged(uri: str) -> None:
    run_id = train(tiny("dfa", epochs=1), "gone", uri)
    thresholds = DiagnosticThresholds(h_norm_explosion_ratio=1.0, stability_drift_ceiling=1.0)
    (whole,) = fa_tracking.audit("gone", uri, thresholds=thresholds).runs
    run = MlflowClient(uri).get_run(run_id)
    shutil.rmtree(Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoints")
    (part,) = fa_tracking.audit("gone", uri, thresholds=thresholds).runs
    assert isinstance(part.report, PartialReport) and whole.report is not None
    assert (part.report.flags, part.epoch) == (whole.report.flags, whole.epoch)
    assert {part.report.kinds[flag] for flag in "abc"} == {"exact"}
    assert part.report.residual_norms == pytest.approx(whole.report.residual_norms, rel=1e-6)
    assert "fa.checkpoint_sha256" in run.data.tags
    assert "fa.checkpoint_sha256" not in MlflowClient(uri).get_run(run_id).data.tags


def first_held(holds: Mapping[int, bool], patience: int) -> int | None:
    """Plainly: the first epoch at which it held there and at the ``patience`` − 1 logged ones before."""
    epochs = sorted(holds)
    windows = [epochs[i - patience + 1 : i + 1] for i in range(patience - 1, len(epochs))]
    return next((window[-1] for window in windows if all(holds[e] for e in window)), None)


@pytest.mark.parametrize("patience", [1, 2])
def test_the_replay_finds_the_epochs_that_a_plain_computation_finds(uri: str, patience: int) -> None:
    experiment = f"replayed {patience}"
    grown = [9.0, 4e8, 3e3, 6e7, 7e8, 8e8]
    shrunk = [1e-4, 1e-8, 1e-6, 1e-6, 5e-9, 4e-9]
    accuracies = [0.1, 0.2, 0.36, 0.36, 0.34, 0.34]
    for seed in (1, 2):
        series = dict(enumerate(zip([h * seed for h in grown], shrunk, accuracies, strict=True)))
        log_old(uri, experiment, old(series), BY_HAND, method="dfa", depth=4, seed=seed, epochs=10)
    running = log_old(uri, experiment, old(COLLAPSED), status="RUNNING", method="dfa", depth=4, seed=3, epochs=10)
    result = fa_tracking.replay(experiment, uri, patience=patience)
    assert not result.problems
    stops = []
    for seed in (1, 2):
        run = next(r for r in result.runs if r.params["seed"] == str(seed))
        holds = {
            "a": {e: (h * seed / 8.7) ** 0.25 > 50 for e, h in enumerate(grown)},
            "b": {e: g < 1e-7 for e, g in enumerate(shrunk)},
            "d": {e: 100 * (accuracy - 0.349) < 2 for e, accuracy in enumerate(accuracies)},
        }
        assert {f: run.diagnostics[f].epoch for f in "abd"} == {f: first_held(holds[f], patience) for f in "abd"}
        assert run.diagnostics["n"].epoch is None and run.diagnostics["c"].kind == "not measured"
        assert (run.diagnostics["a"].kind, run.diagnostics["b"].kind) == ("bound", "proxy")
        stops.append(first_held({e: holds["a"][e] or holds["b"][e] for e in holds["a"]}, patience))
        assert run.stop.epoch == stops[-1] and run.stop.epoch is not None
        assert run.stop.saved == pytest.approx(
            1 - run.stop.epoch / 5
        )  # the last epoch that was logged, not the planned 10
        assert run.is_cut_short and run.planned_epochs == 10
        assert (run.stop.accuracy, run.final_accuracy) == (accuracies[run.stop.epoch], 0.34)
    unfinished = next(r for r in result.runs if r.run_id == running)
    assert unfinished.status == "RUNNING" and unfinished.diagnostics["d"].kind == "not measured"
    saving = result.savings[-1]
    shares = [1 - e / 5 for e in stops if e is not None]
    assert (saving.rule, saving.n, saving.n_fired) == ("n,a,b", 2, 2)
    assert saving.saved == pytest.approx((statistics.fmean(shares), statistics.stdev(shares)))


def test_the_replay_agrees_with_the_database_on_a_trained_run(uri: str) -> None:
    train(tiny("dfa", epochs=3, lr=0.02, credit_normalisation="rms"), "trained", uri)
    thresholds = DiagnosticThresholds(h_norm_explosion_ratio=1.2, g_norm_floor=2e-3, stability_drift_ceiling=-0.9)
    fa_tracking.audit("trained", uri, thresholds=thresholds)
    export("trained.duckdb", uri)
    with connect("trained.duckdb") as connection:
        answer = ask(connection, find_query("first_flag"), "trained")
        asked = dict(zip(answer.columns, answer.fetchall()[0], strict=True))
    (run,) = fa_tracking.replay("trained", uri, thresholds).runs
    columns = {"a": "growth_epoch", "b": "grad_floor_epoch", "c": "drift_epoch", "n": "not_finite_epoch"}
    assert {f: run.diagnostics[f].epoch for f in columns} == {f: asked[c] for f, c in columns.items()}
    assert None not in (asked["growth_epoch"], asked["grad_floor_epoch"], asked["drift_epoch"])
    assert run.stop.accuracy == asked["accuracy_at_first"] and run.final_accuracy == asked["final_accuracy"]
    assert run.stop.saved == pytest.approx(asked["epochs_saved"]) and not run.is_cut_short


OF_A_TOKEN = {  # by epoch: grown alone, grown with the whole stream; a small error of two classes, of a thousand
    0: {"max_block_growth": 4e3, "stream_growth": 1.5, "deepest_grad_norm": 1e-3, "grad_gain": 1e-3},
    1: {"max_block_growth": 4e3, "stream_growth": 80.0, "deepest_grad_norm": 1e-3, "grad_gain": 1e-3},
    2: {"max_block_growth": 2.0, "deepest_grad_norm": 5e-8, "grad_gain": 1.02e-7, "chance_error": 0.9995},
    3: {"max_block_growth": 2.0, "deepest_grad_norm": 5e-8, "grad_gain": 1.2e-7, "chance_error": 0.7071},
}


def test_what_explains_a_flag_away_reaches_report_tags_replay_and_database(uri: str) -> None:
    epochs = {e: {f"diagnostics/{k}": v for k, v in found.items()} for e, found in OF_A_TOKEN.items()}
    epochs[3]["accuracy/test"] = 0.5
    log_old(uri, "tokens", epochs, method="dfa", seed=1, epochs=3)
    (run,) = fa_tracking.replay("tokens", uri).runs
    assert (run.diagnostics["a"].epoch, run.diagnostics["b"].epoch, run.stop.epoch) == (1, 3, 1)
    (audited,) = fa_tracking.audit("tokens", uri).runs
    assert audited.report is not None and audited.report.flags == ("b",)
    assert audited.report.chance_error == 0.7071 and "chance_error" not in audited.report.extra
    export("tokens.duckdb", uri, "tokens")
    with connect("tokens.duckdb") as connection:
        asked = ask(connection, find_query("first_flag"), "tokens").df().iloc[0]
        held = connection.sql("select stream_growth, chance_error, reference, protocol_version from audits").fetchall()
    assert (asked["growth_epoch"], asked["grad_floor_epoch"]) == (1, 3)
    assert held == [(None, 0.7071, None, audited.report.protocol_version)]
    alone = log_old(uri, "alone", {0: epochs[0]}, method="dfa", seed=1)
    done = CliRunner().invoke(main, ["audit", "--experiment", "alone", "--tracking-uri", uri])
    assert "? inconclusive partial" in done.stdout and "if only the class token grows" in done.stdout
    measured = json.loads(MlflowClient(uri).get_run(alone).data.tags["fa.measured"])
    assert (measured["stream_growth"], measured["max_block_growth"], measured["fired"]["a"]) == (1.5, 4e3, False)
    export("tokens.duckdb", uri, "alone")
    with connect("tokens.duckdb") as connection:
        found = connection.sql("select max_block_growth, stream_growth, fires_a from audits where stream_growth > 0")
        assert found.fetchall() == [(4e3, 1.5, False)]


def test_no_number_of_a_gradient_that_is_not_bps_judges_a_run(uri: str, workspace: Path) -> None:
    small = {"residual_norm/h0": 1.0, "residual_norm/h1": 2.0, "grad_norm/g0": 1e-9, "grad_norm/g1": 1e-9}
    small |= {"diagnostics/deepest_grad_norm": 1e-9, "diagnostics/grad_gain": 1e-9, "diagnostics/stability": 0.9}
    run_id = log_old(uri, "feedback", {1: small}, method="dfa", depth=1, seed=1)
    client = MlflowClient(uri)
    (audited,) = fa_tracking.audit("feedback", uri).runs
    assert audited.report is not None and audited.report.flags == ("b", "c")
    client.set_tag(run_id, "fa.reference_gradient", "not BP's")
    (replayed,) = fa_tracking.replay("feedback", uri).runs
    assert replayed.stop.epoch is None and replayed.diagnostics["b"].kind == "not measured"
    command = ["audit", "--experiment", "feedback", "--tracking-uri", uri]
    done = CliRunner().invoke(main, command, env={"COLUMNS": "80"})
    assert done.exit_code == 0 and "? inconclusive" in done.stdout
    assert "(b) and (c) are empty if the reference gradient is not BP's" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    tags = client.get_run(run_id).data.tags
    assert (tags["fa.verdict"], tags["fa.flags"]) == ("inconclusive: the reference gradient is not BP's", "")
    assert "fa.reference_gradient" in tags  # an audit of the log knows no more of it
    measured = json.loads(tags["fa.measured"])
    assert measured["deepest_grad_norm"] is measured["stability"] is None
    assert (measured["reference"], measured["fired"]) == (
        "not BP's", {"n": False, "a": False, "b": None, "c": None, "d": None}
    )  # fmt: skip
    export("feedback.duckdb", uri, "feedback")
    with connect("feedback.duckdb") as connection:
        assert connection.sql("select reference, fires_a, fires_b from audits").fetchall() == [
            ("not BP's", False, None)
        ]
    shown = CliRunner().invoke(main, ["report", "--experiment", "feedback", "--db", "feedback.duckdb"])
    assert shown.exit_code == 0 and "is not BP's: (b) and (c) were not measured" in shown.stdout


def test_the_audit_of_a_model_sets_and_takes_back_the_tag_of_its_reference_gradient(uri: str) -> None:
    run_id = log_old(uri, "tagged", {}, method="dfa")
    client = MlflowClient(uri)

    def written(reference: Reference | None, grads: list[float | None], version: str = "1.1") -> dict[str, str]:
        report = DiagnosticReport(
            "dfa", "", [1.0, 2.0], grads, 0, None, 0.5, None, reference=reference, protocol_version=version
        )
        write(client, client.get_run(run_id), Finding(report, 3, "0" * 64, Knockout(problem="no blocks")))
        return dict(client.get_run(run_id).data.tags)

    tags = written(Reference.NOT_BP, [None, None])
    assert (tags["fa.reference_gradient"], tags["fa.flags"]) == ("not BP's", "")
    assert "the reference gradient is not BP's" in tags["mlflow.note.content"]
    for reference in (Reference.CHECKED, Reference.NOT_CHECKED, None):
        written(Reference.NOT_BP, [None, None])
        tags = written(reference, [1e-3, 1e-3], "1.2")
        assert "fa.reference_gradient" not in tags and tags["fa.protocol_version"] == "1.2"


def test_replay_on_the_command_line(uri: str) -> None:
    def replayed(*args: str) -> Result:
        return CliRunner().invoke(main, ["replay", "--experiment", "lines", "--tracking-uri", uri, *args])

    for seed in (1, 2):
        log_old(uri, "lines", old(COLLAPSED), BY_HAND, method="dfa", depth=4, seed=seed, epochs=10)
    log_old(uri, "lines", old(HEALTHY), BY_HAND, method="dfa", depth=4, seed=1, epochs=10, penalty=0.01)
    done = replayed()
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "≤2" in done.stdout and "~2" in done.stdout and "2 of 2" in done.stdout and "0 of 1" in done.stdout
    assert "2 of 10" in done.stdout and "in 3 of 3 runs the log ends before the planned epochs" in done.stdout
    log_old(uri, "lines", {1: {"accuracy/test": 0.1}}, method="dfa", seed=9)
    done = replayed("--explosion-ratio", "1e9", "--format", "json")
    assert done.exit_code == 1 and "no diagnostics were logged" in done.stderr
    found = json.loads(done.stdout)
    assert [r["diagnostics"]["a"]["epoch"] for r in found["runs"] if not r["problem"]] == [None, None, None]
    for args, says in ((["--abort-on", "d"], "choose among n, a, b, c"), (["--patience", "0"], "range x>=1")):
        done = replayed(*args)
        assert done.exit_code == 2 and says in done.stderr


def test_numbers_of_another_loop_are_judged_as_the_document_says(uri: str) -> None:
    text = (Path(__file__).parent.parent / "docs/explanation/partial-evidence.md").read_text()
    mlflow.set_tracking_uri(uri)
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], {})
    (audited,) = fa_tracking.audit("old_logs", uri).runs
    assert audited.report is not None and "(by proxy ‖g_2‖)" in audited.report.verdict
    (run,) = fa_tracking.replay("old_logs", uri).runs
    said = (
        f"`{run.final_epoch} of {run.planned_epochs}`",
        f"a stop at epoch {run.stop.epoch} saves {run.stop.saved:.3f}",
    )
    assert all(words in text for words in said)
