"""What an audit, a gate and a partial report read of a run: tags, params and the names of metrics."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fa_tracking.auditor.control import Control
from fa_tracking.auditor.evidence import logged_numbers
from fa_tracking.auditor.run import _notes
from fa_tracking.checks.requirement import Requirement
from fa_tracking.protocol.thresholds import DiagnosticThresholds
from fa_tracking.tracking import audited, names

from ._values import changed, scalars, texts, values

TITLE = "tags, params and metrics of a run: gate, partial report"
WEIGHT = 10

MEASURED = {"epoch": 2, "fired": {"n": False, "a": True, "b": None, "c": False, "d": None}, "kinds": {"a": "bound"}}
GIVEN = {"h0_norm": 8.7, "control_accuracy": 0.3, "grad_batch": 128, "params": ["seed"]}


def inputs() -> st.SearchStrategy[Any]:
    keys = st.sampled_from(
        ["residual_norm/h0", "residual_norm/h4", "grad_norm/g4", "grad_norm/g9999999999", names.STABILITY]
    )
    keys |= st.sampled_from([names.ACCURACY_TEST, names.MAX_BLOCK_GROWTH, names.DEEPEST_GRAD_NORM, "diagnostics/x"])
    keys |= texts.map("residual_norm/h{}".format) | texts
    numbers = st.floats() | st.sampled_from([1.7976931348623157e308, -1.0])
    tags = st.fixed_dictionaries(
        {},
        optional={
            names.TAG_VERDICT: st.sampled_from(["trustworthy", "needs walk-back: x", "inconclusive: y"]) | texts,
            names.TAG_EVIDENCE: st.sampled_from(["full", "partial"]) | texts,
            names.TAG_MEASURED: changed(MEASURED).map(json.dumps) | values.map(json.dumps) | texts,
            names.TAG_GIVEN: changed(GIVEN).map(json.dumps) | texts,
            names.TAG_AUDITED_AT: texts | st.sampled_from(["0001-01-01", "9999-12-31T23:59:59+00:00"]),
            names.TAG_ABORTED_AT: texts,
            names.TAG_IMPORT_NOTES: texts,
        },
    )
    params = st.fixed_dictionaries(
        {},
        optional={
            k: scalars.map(lambda v: str(v) if not isinstance(v, int) or abs(v) < 10**300 else "9")
            for k in names.PARAMS
        },
    )
    return st.tuples(tags, params, st.dictionaries(keys, numbers, max_size=6), st.booleans())


def feed(value: Any, folder: Path) -> None:
    from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

    tags, params, metrics, flag = value
    info = RunInfo("0" * 32, "1", "u", "FINISHED", 0, 1, "active", str(folder))
    data = RunData(
        [Metric(k, v, 0, 1) for k, v in metrics.items()],
        [Param(k, v) for k, v in params.items()],
        [RunTag(k, v) for k, v in tags.items()],
    )
    run = Run(info, data)
    asked = Requirement(("trustworthy",), ("a", "b") if flag else (), allow_partial=flag)
    stored = audited.read(run.data.tags)
    asked.fired(stored)
    str((stored.shown_verdict, stored.epoch, stored.kinds, stored.inexact, stored.number("epoch")))
    asked.falls_short(run.data.tags, tags.get(names.TAG_VERDICT, ""))
    _notes(run, 1)

    class Store:
        def get_metric_history(self, _: str, key: str) -> list[Metric]:
            return [Metric(key, metrics[key], 0, 1)]

    log = logged_numbers.read(Store(), run)  # type: ignore[arg-type]
    for epoch in log.epochs:
        report = log.report(epoch, Control(None, (), "none"), DiagnosticThresholds(), "n")
        str(report)
        report.to_dict()
