"""The gate: what passes, what offends and why, and what a CI server reads of it."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from fa_tracking.cli import main
from fa_tracking.tracking.names import (
    ACCURACY_TEST,
    TAG_AUDITED_AT,
    TAG_CONTROL_RUNS,
    TAG_EVIDENCE,
    TAG_MEASURED,
    TAG_VERDICT,
)

TRUSTWORTHY, EXPLODED = "trustworthy", "needs walk-back: residual stream exploded"
DRIFTS = "needs walk-back: BP grad direction is drift-dominated"
MATCHED = {"architecture": "resmlp", "width": 16, "depth": 2, "epochs": 2, "batch_size": 128}
NOW = int(time.time() * 1000)

Make = Callable[..., str]


@pytest.fixture
def experiment(uri: str, request: pytest.FixtureRequest) -> str:
    name = request.node.name
    MlflowClient(uri).create_experiment(name)
    return name


@pytest.fixture
def make(uri: str, experiment: str) -> Make:
    """Makes a run in the store, as a trainer and an auditor leave it; every run ended a minute ago."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None

    def run(
        verdict: str | None = TRUSTWORTHY,
        name: str | None = None,
        status: str = "FINISHED",
        started: int = NOW - 120_000,
        ended: int = NOW - 60_000,
        fired: Mapping[str, bool | None] | None = None,
        tags: Mapping[str, str] | None = None,
        **params: object,
    ) -> str:
        run_id = client.create_run(found.experiment_id, start_time=started, run_name=name).info.run_id
        logged = {"method": "bp", "seed": 1, "frozen_blocks": False, "dataset": experiment, **MATCHED, **params}
        audit = {}
        if verdict is not None:
            measured = {"n": False, "a": "exploded" in verdict, "b": False, "c": "drift" in verdict, "d": None}
            audit = {TAG_VERDICT: verdict, TAG_EVIDENCE: "full", TAG_AUDITED_AT: stamp(NOW)}
            audit |= {TAG_MEASURED: json.dumps({"fired": measured | dict(fired or {})}), **(tags or {})}
        client.log_batch(
            run_id,
            [Metric(ACCURACY_TEST, 0.5, ended, 2)],
            [Param(key, str(value)) for key, value in logged.items()],
            [RunTag(key, value) for key, value in audit.items()],
        )
        if status != "RUNNING":
            client.set_terminated(run_id, status, end_time=ended)
        return run_id

    return run


def stamp(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(milliseconds / 1000))


def gate(*args: str) -> Result:
    """In this process, in which MLflow is imported once."""
    done = CliRunner().invoke(main, ["gate", *args], prog_name="fa-track")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def outcomes(experiment: str, *args: str) -> dict[str, tuple[str, str]]:
    """What became of each run, and why, by its id."""
    found = json.loads(gate("--experiment", experiment, "--json", *args).stdout)
    return {run["run_id"]: (run["outcome"], run["why"]) for cell in found["cells"] for run in cell["runs"]}


def test_trustworthy_runs_pass_in_silence_and_without_torch(make: Make, experiment: str, workspace: Path) -> None:
    make(seed=1)
    make(seed=2)
    program = (
        "import sys\nfrom fa_tracking.cli import main\n"
        "try:\n    main(prog_name='fa-track')\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, "gate", "--experiment", experiment, "--min-seeds", "2"]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "gate passed: 2 of 2 runs pass (trustworthy)" in done.stderr
    assert "not measured in 2 of the 2 that pass: d" in done.stderr


def test_every_offence_has_its_line_and_its_reason(make: Make, experiment: str) -> None:
    passing = make()
    offending = {
        make(EXPLODED, "exploded"): f"(exploded): {EXPLODED}",
        make(None, "bare"): "(bare): not audited",
        make(None, "on", status="RUNNING", seed=5): "(on): unfinished: RUNNING",
        make(None, "off", status="FAILED", seed=6): "(off): unfinished: FAILED",
        make("inconclusive: not measured: (c)", "c"): "(c): inconclusive: not measured: (c)",
        make(tags={TAG_EVIDENCE: "partial"}, name="old"): "(old): partial evidence: trustworthy",
        make(name="on", tags={TAG_AUDITED_AT: stamp(NOW - 90_000)}): "(on): audited before its last change: it has log",
        make("trustworthy: so they say", "said"): "(said): trustworthy: so they say",
        make(tags={TAG_AUDITED_AT: "?"}, name="when"): "(when): audited before its last change: it does not say when",
    }
    done = gate("--experiment", experiment)
    assert done.exit_code == 3
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines.keys() == offending.keys()
    for run_id, says in offending.items():
        assert lines[run_id].startswith(says), lines[run_id]
    assert passing not in done.stdout
    assert "gate failed: 1 of 10 runs pass" in done.stderr
    assert f"next: fa-track audit --experiment {experiment}" in done.stderr


def test_a_control_that_ended_after_the_audit_makes_the_verdict_stale(make: Make, experiment: str) -> None:
    early = make(frozen_blocks=True, tags={TAG_AUDITED_AT: stamp(NOW)})
    run = make(tags={TAG_CONTROL_RUNS: early})
    assert gate("--experiment", experiment).exit_code == 0
    late = make(frozen_blocks=True, seed=2, ended=NOW + 5_000)
    outcome, why = outcomes(experiment)[run]
    assert (outcome, f"its frozen control {late} has ended since" in why) == ("no verdict", True)


def test_frozen_controls_and_replaced_runs_are_left_out_and_counted(make: Make, experiment: str) -> None:
    control = make(EXPLODED, frozen_blocks=True)
    replaced = make(None, status="FAILED", seed=7, started=NOW - 300_000)
    again = make(seed=7)
    done = gate("--experiment", experiment)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "left out: 1 FAILED, 1 frozen control" in done.stderr
    found = outcomes(experiment)
    assert found[replaced] == ("left out", f"FAILED, replaced by the later run {again}")
    assert outcomes(experiment, "--controls")[control] == ("fails", EXPLODED)
    assert gate("--experiment", experiment, "--controls").exit_code == 3


def test_what_is_required_can_be_chosen(make: Make, experiment: str) -> None:
    good, exploded = make(seed=1), make(EXPLODED, method="dfa", seed=1)
    drifting, diverged = make(DRIFTS, seed=2), make(EXPLODED, fired={"a": False, "n": True}, seed=3)

    def passing(*args: str) -> set[str]:
        return {run for run, (outcome, _) in outcomes(experiment, *args).items() if outcome == "passes"}

    assert passing() == {good}
    assert passing("--require", "walk-back") == {exploded, drifting, diverged}
    assert passing("--require", "walk-back", "--require", "trustworthy") == {good, exploded, drifting, diverged}
    assert passing("--forbid", "a,b") == {good, drifting}
    assert passing("--forbid", "c") == {good, exploded}
    assert passing("--require", "walk-back", "--forbid", "a") == {drifting}
    assert passing("--forbid", "d") == set()
    assert outcomes(experiment, "--forbid", "d")[good] == ("fails", "not measured: d; trustworthy")
    partial = make(seed=4, tags={TAG_EVIDENCE: "partial"})
    assert passing("--allow-partial") == {good, partial}
    assert passing("--method", "dfa", "--require", "walk-back") == {exploded}


def test_a_bound_or_a_proxy_that_does_not_fire_passes_only_where_partial_evidence_may(
    make: Make, experiment: str
) -> None:
    def imported(verdict: str, seed: int, kinds: Mapping[str, str], fired: Mapping[str, bool | None]) -> str:
        flags = {"n": False, "a": None, "b": None, "c": None, "d": None, **fired}
        tags = {TAG_EVIDENCE: "partial", TAG_MEASURED: json.dumps({"fired": flags, "kinds": kinds})}
        return make(verdict, tags=tags, seed=seed)

    known, silent = {"a": "bound", "b": "proxy", "c": "not measured"}, {"a": "bound", "b": "not measured"}
    healthy = imported("inconclusive: partial evidence: (a) likely pass; (b) pass by proxy ‖g_2‖", 1, known, {})
    exploded = imported(EXPLODED, 2, known, {"a": True})
    unknown = imported("inconclusive: partial evidence: (a) likely pass; (b) not measured", 3, silent, {})
    strict = outcomes(experiment, "--forbid", "a,b")
    assert {outcome for outcome, _ in strict.values()} == {"fails"}
    found = outcomes(experiment, "--forbid", "a,b", "--allow-partial")
    assert (found[healthy][0], found[exploded]) == ("passes", ("fails", EXPLODED))
    assert found[unknown][1].startswith("not measured: b;")
    assert outcomes(experiment, "--forbid", "c", "--allow-partial")[healthy][0] == "fails"
    said = gate("--experiment", experiment, "--forbid", "a,b", "--allow-partial").stderr
    assert "that pass: c" in said and "that pass: a" not in said


def test_every_cell_needs_its_seeds_and_a_repeated_seed_is_one(make: Make, experiment: str) -> None:
    for seed in (1, 2, 2):
        make(seed=seed)
    for seed in (1, 2, 3):
        make(seed=seed, penalty=0.01)
    done = gate("--experiment", experiment, "--min-seeds", "3")
    assert (done.exit_code, done.stdout) == (3, "cell bp penalty=: 2 of 3 seeds pass: 1, 2\n")
    assert gate("--experiment", experiment, "--min-seeds", "2").exit_code == 0


def test_nothing_to_judge_never_passes(make: Make, experiment: str) -> None:
    assert gate("--experiment", experiment).exit_code == 3
    make(frozen_blocks=True)
    done = gate("--experiment", experiment)
    assert (done.exit_code, "no run to judge: there are frozen controls" in done.stdout) == (3, True)
    make()
    done = gate("--experiment", experiment, "--method", "bp", "--method", "ep")
    assert (done.exit_code, done.stdout.count("\n")) == (3, 1)
    assert "no run of the method 'ep' to judge; it has runs of: bp" in done.stdout
    assert gate("--experiment", experiment, "--method", "bp").exit_code == 0


def test_junit_is_read_back_with_a_suite_a_cell_and_a_case_a_run(make: Make, experiment: str, tmp_path: Path) -> None:
    name = "<b>\x1b[31m & \"q\" 'd' \u202e seed.1"
    ids = {"passes": make(seed=1, name=name), "fails": make(EXPLODED, "x", seed=2), "none": make(None, "y", seed=3)}
    ids["control"] = make(frozen_blocks=True)
    file = tmp_path / "gate.xml"
    done = gate(
        "--experiment", experiment, "--method", "bp", "--method", "ep", "--min-seeds", "2", "--junit", str(file)
    )
    assert done.exit_code == 3
    root = ET.parse(file).getroot()
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["bp trainable_blocks=0", "bp trainable_blocks=all", "gate"]
    counts = ("tests", "failures", "errors", "skipped")
    assert [root.get(c) for c in counts] == ["6", "3", "1", "1"]
    first = suites["bp trainable_blocks=all"]
    assert [first.get(c) for c in counts] == ["4", "2", "1", "0"]
    assert {p.get("name"): p.get("value") for p in first.iter("property")}["architecture"] == "resmlp"
    cases = {case.get("name", ""): case for case in root.iter("testcase")}
    clean = name.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert list(cases[f"{clean} ({ids['passes']})"]) == []
    assert float(cases[f"x ({ids['fails']})"].get("time", "")) == pytest.approx(60)
    failure = cases[f"x ({ids['fails']})"].find("failure")
    assert failure is not None and failure.get("message") == failure.text == EXPLODED
    error = cases[f"y ({ids['none']})"].find("error")
    assert error is not None and error.get("message") == "not audited"
    assert cases["seeds"].find("failure").get("message") == "1 of 2 seeds pass: 1"  # type: ignore[union-attr]
    assert next(case for n, case in cases.items() if ids["control"] in n).find("skipped") is not None
    assert "'ep'" in suites["gate"][0][0].get("message", "")
    assert len({case.get("classname", "").count(".") for case in cases.values()}) == 1


def test_github_reads_one_annotation_an_offence_whatever_a_run_is_called(make: Make, experiment: str) -> None:
    name = "a:b,c%d\n::warning::e"
    run = make("needs walk-back: 100%", name)
    done = gate("--experiment", experiment, "--github")
    matched = re.fullmatch(r"::error title=([^:,\n]*)::([^\n]*)\n", done.stdout)
    assert (done.exit_code, matched is not None) == (3, True)
    assert matched is not None
    title, message = (decoded(part) for part in matched.groups())
    assert title == f"fa-track gate: {run} (a:b,c%d ::warning::e)"
    assert message == "needs walk-back: 100%"


def decoded(text: str) -> str:
    for code, character in {"%3A": ":", "%2C": ",", "%0A": "\n", "%25": "%"}.items():
        text = text.replace(code, character)
    return text


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--experiment", "nope"], 2, "no experiment named 'nope'"),
        (["--forbid", "a,x"], 2, "no flag 'x': choose among n, a, b, c, d"),
        (["--forbid", ""], 2, "no flag ''"),
        (["--require", "good"], 2, "'good' is not one of"),
        (["--json", "--github"], 2, "give one of them"),
        (["--junit", "nowhere/gate.xml"], 2, "the folder nowhere does not exist"),
    ],
)
def test_bad_input_gets_one_line_and_its_exit_code(
    make: Make, uri: str, workspace: Path, args: list[str], code: int, says: str
) -> None:
    MlflowClient(uri).get_experiment_by_name("bad") or MlflowClient(uri).create_experiment("bad")
    done = gate(*(args if "--experiment" in args else ["--experiment", "bad", *args]))
    assert (done.exit_code, says in done.stderr.splitlines()[-1]) == (code, True), done.stderr
