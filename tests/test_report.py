"""Numbers in, verdict out: thresholds, wordings, order, and what is not a number."""

import json
import math
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fa_tracking import DiagnosticReport, DiagnosticThresholds
from fa_tracking.errors import InvalidError
from fa_tracking.protocol.functional_report import Functional
from fa_tracking.protocol.report import PartialReport
from fa_tracking.protocol.written import Derived

HEALTHY = {
    "method_name": "BP",
    "notes": "",
    "residual_norms": [10.0, 20.0, 30.0],
    "bp_grad_norms": [1e-3, 1e-3, 1e-4],
    "stability_layer": 1,
    "cross_batch_stability": 0.1,
    "headline_acc": 0.61,
    "frozen_baseline_acc": 0.35,
}


def report(**changes: object) -> DiagnosticReport:
    return DiagnosticReport(**{**HEALTHY, **changes})


def test_a_healthy_network_is_trustworthy() -> None:
    assert report().verdict == "trustworthy"
    assert report().max_per_block_growth == 2.0


@pytest.mark.parametrize(
    ("changes", "flag", "wording"),
    [
        ({"residual_norms": [1.0, 50.1, 60.0]}, "a", "residual stream exploded"),
        ({"bp_grad_norms": [1e-3, 1e-3, 9.9e-8]}, "b", "BP grad at numerical floor"),
        ({"cross_batch_stability": 0.301}, "c", "BP grad direction is drift-dominated"),
        ({"headline_acc": 0.369}, "d", "deep blocks fail to beat frozen-random baseline"),
        ({"cross_batch_stability": math.nan}, "n", "measurement is not finite"),
    ],
)
def test_each_flag_has_its_wording(changes: dict, flag: str, wording: str) -> None:
    assert report(**changes).flags == (flag,)
    assert report(**changes).verdict == f"needs walk-back: {wording}"


def test_the_published_dfa_is_walked_back_in_the_order_of_the_protocol() -> None:
    dfa = report(
        residual_norms=[8.7, 6e3, 1e6, 1e8, 5e8],
        bp_grad_norms=[1e-3, 1e-6, 1e-7, 1e-8, 3e-9],
        cross_batch_stability=0.05,
        headline_acc=0.306,
        frozen_baseline_acc=0.349,
    )
    assert dfa.verdict == (
        "needs walk-back: residual stream exploded; BP grad at numerical floor; "
        "deep blocks fail to beat frozen-random baseline"
    )
    assert (dfa.residual_stream_exploded, dfa.bp_grad_at_floor) == (True, True)
    assert (dfa.reference_drift_dominated, dfa.frozen_baseline_undercut) == (False, True)


def test_a_value_at_its_threshold_does_not_fire() -> None:
    at = report(
        residual_norms=[1.0, 50.0],
        bp_grad_norms=[1e-3, 1e-7],
        cross_batch_stability=0.30,
        headline_acc=0.375,
        frozen_baseline_acc=0.355,
        thresholds=DiagnosticThresholds(frozen_acc_margin_pp=100 * (0.375 - 0.355)),
    )
    assert at.verdict == "trustworthy"


def test_without_a_control_d_is_skipped_and_says_so() -> None:
    alone = report(frozen_baseline_acc=None)
    assert alone.frozen_baseline_undercut is None
    assert alone.verdict == "trustworthy"
    assert "skipped: no frozen control" in str(alone)


def test_a_missing_measurement_is_never_trustworthy() -> None:
    assert report(cross_batch_stability=None).verdict == ("inconclusive: not measured: cross-batch direction stability")
    assert report(bp_grad_norms=[]).verdict == "inconclusive: not measured: deepest gradient norm"
    assert report(residual_norms=[]).verdict == "inconclusive: not measured: max per-block growth"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "where", ["residual_norms", "bp_grad_norms", "cross_batch_stability", "headline_acc", "frozen_baseline_acc"]
)
def test_not_finite_comes_first_wherever_it_stands(where: str, bad: float) -> None:
    value = [10.0, bad, 30.0] if where.endswith("norms") else bad
    assert report(**{where: value}).verdict.startswith("needs walk-back: measurement is not finite")


def test_growth_clamps_a_vanishing_denominator_and_needs_two_layers() -> None:
    assert report(residual_norms=[0.0, 1e-29], bp_grad_norms=[]).max_per_block_growth == pytest.approx(10.0)
    assert report(residual_norms=[5.0], bp_grad_norms=[]).max_per_block_growth == 1.0


def test_a_small_gradient_of_a_small_error_is_not_collapse() -> None:
    confident = report(bp_grad_norms=[1e-3, 1e-3, 5e-8], grad_gain=1e-3)
    assert confident.verdict == "trustworthy"
    assert "small gradient explained by small error" in str(confident)
    collapsed = report(bp_grad_norms=[1e-3, 1e-3, 5e-8], grad_gain=6e-8)
    assert collapsed.flags == ("b",)
    assert report(bp_grad_norms=[1e-3, 1e-3, 5e-8], grad_gain=None).flags == ("b",)


@pytest.mark.parametrize("stability", [0.1, 0.9, None, math.nan, -math.inf])
def test_a_report_survives_json_and_gives_the_same_verdict(stability: float | None) -> None:
    first = report(cross_batch_stability=stability, residual_norms=[1.0, 2.0, math.inf], grad_gain=2e-3, n_batches=10)
    text = json.dumps(first.to_dict(), allow_nan=False)
    again = DiagnosticReport.from_dict(json.loads(text))
    assert again.verdict == first.verdict
    assert json.dumps(again.to_dict()) == text


def test_the_printed_report_has_a_section_a_diagnostic_flags_and_a_verdict() -> None:
    text = str(report(cross_batch_stability=0.5))
    assert [line[:3] for line in text.splitlines() if line.startswith("(")] == ["(n)", "(a)", "(b)", "(c)", "(d)"]
    assert text.count("FLAG: BP grad direction is drift-dominated") == 1
    assert "\nVERDICT: needs walk-back: BP grad direction is drift-dominated\n" in text


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["g_norm_floor", "h_norm_explosion_ratio", "stability_drift_ceiling", "frozen_acc_margin_pp"]
)
def test_a_threshold_that_is_no_number_is_refused(name: str, bad: float) -> None:
    with pytest.raises(InvalidError, match=name):
        DiagnosticThresholds(**{name: bad})


def test_an_accuracy_in_percent_is_refused() -> None:
    with pytest.raises(InvalidError, match="share in"):
        report(headline_acc=31.0)


NUMBERS = st.one_of(
    st.floats(1e-12, 1e12), st.just(0.0), st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(1e-8, 1e-6)
)
SHARES = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([math.nan, math.inf]))


@given(
    norms=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6),
    c=st.one_of(st.floats(-1, 1), st.just(math.nan)),
    accuracies=st.tuples(SHARES, SHARES),
)
def test_the_verdict_is_the_protocols_on_any_numbers(
    norms: list[tuple[float, float]], c: float, accuracies: tuple[float | None, float | None]
) -> None:
    headline, frozen = accuracies
    h, g = map(list, zip(*norms, strict=True))
    said = []
    steps = [np.float64(b) / np.maximum(np.float64(a), 1e-30) for a, b in pairwise(h)]
    growth = np.max(steps) if steps else np.float64(1.0)
    given_numbers = [*h, *g, c, float(growth), *(a for a in accuracies if a is not None)]
    if not np.isfinite(given_numbers).all():
        said.append("measurement is not finite")
    if growth > 50:
        said.append("residual stream exploded")
    if g[-1] < 1e-7:
        said.append("BP grad at numerical floor")
    if c > 0.3:
        said.append("BP grad direction is drift-dominated")
    if headline is not None and frozen is not None and 100 * (headline - frozen) < 2:
        said.append("deep blocks fail to beat frozen-random baseline")
    seen = report(
        residual_norms=h,
        bp_grad_norms=g,
        cross_batch_stability=c,
        headline_acc=headline,
        frozen_baseline_acc=frozen,
    )
    assert seen.verdict == ("needs walk-back: " + "; ".join(said) if said else "trustworthy")


def test_a_wrong_field_is_named() -> None:
    with pytest.raises(InvalidError, match="headline_acc"):
        report(headline_acc="good")
    with pytest.raises(ValueError, match="'surprise', which a newer version of fa-track writes"):
        DiagnosticReport.from_dict({**report().to_dict(), "surprise": 1})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"protocol": "2"}, "protocol 2"),
        ({"flags": ["r"]}, "flag 'r'"),
        ({"kinds": {"r": "exact"}}, "flag 'r'"),
        ({"thresholds": {"extra": {"participation_floor": 1.0}}}, "'participation_floor' is the threshold of no diag"),
        ({"max_block_growth": 3.0}, "max_block_growth"),
    ],
)
def test_a_report_that_another_version_or_diagnostic_has_judged_is_refused_by_name(
    changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        DiagnosticReport.from_dict({**report().to_dict(), **changes})


WHOLE = {
    **report(
        n_batches=10,
        grad_gain=1e-3,
        stream_growth=1.5,
        chance_error=0.9,
        extra={"rank": 2.0},
        states=["a", "b", "c"],
        control_runs=["r"],
        functional=Functional.missing(3, "no credit"),
        reference="checked",
    ).to_dict(),
    "knockout": {"samples": 8},
}
PART = DiagnosticReport.from_layers(
    {0: 1.0, 2: 3.0},
    {2: 1e-3},
    2,
    method_name="dfa",
    notes="",
    cross_batch_stability=None,
    headline_acc=0.5,
    frozen_baseline_acc=None,
    max_block_growth=3.0,
    given={"h0_norm": 1.0},
).to_dict()
NEEDED = set(HEALTHY)
DERIVED = {field.name for field in fields(Derived)}
OF_EACH = [(kind, name) for kind, whole in (("full", WHOLE), ("partial", PART)) for name in whole]


def written(kind: str) -> dict[str, Any]:
    """As a file of JSON gives it."""
    found: dict[str, Any] = json.loads(json.dumps(WHOLE if kind == "full" else PART))
    return found


@pytest.mark.parametrize(("kind", "name"), OF_EACH)
def test_json_without_a_key_is_read_where_older_versions_lack_it_and_else_refused_by_name(kind: str, name: str) -> None:
    data = written(kind)
    del data[name]
    if (kind, name) == ("partial", "evidence"):
        with pytest.raises(InvalidError, match="partial evidence"):
            DiagnosticReport.from_dict(data)
        assert PartialReport.from_dict(data) == PartialReport.from_dict(PART)
    elif name in NEEDED:
        with pytest.raises(InvalidError, match=f"^{name} is missing$"):
            DiagnosticReport.from_dict(data)
    else:
        assert DiagnosticReport.from_dict(data).method_name == data["method_name"]


@pytest.mark.parametrize(("kind", "name"), OF_EACH)
@pytest.mark.parametrize("wrong", [{"wrong": [{}]}, [[{}]], "wrong", 17.5, True, None], ids=repr)
def test_json_with_a_value_of_a_wrong_type_is_refused_by_name_or_means_the_same(
    kind: str, name: str, wrong: object
) -> None:
    data = {**written(kind), name: wrong}
    try:
        again = DiagnosticReport.from_dict(data).to_dict()
    except InvalidError as error:
        assert name in str(error) and "\n" not in str(error) and len(str(error)) < 300
    else:  # a text for a text, a number for a number; what follows from the numbers is derived anew
        assert name in DERIVED or again[name] == wrong or isinstance(wrong, bool)


@given(
    data=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(sorted(WHOLE)) | st.text(), x),
    )
)
def test_no_json_is_a_traceback(data: object) -> None:
    for found in (data, {**written("full"), **data} if isinstance(data, dict) else data):
        with suppress(InvalidError):
            DiagnosticReport.from_dict(found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"protocol_version": "1.2"}, "protocol_version: it is of measurement revision 1.2, which a newer"),
        ({"protocol_version": "1.10"}, "measurement revision 1.10"),
        ({"protocol_version": "new"}, "protocol_version: 'new' is no measurement revision such as 1"),
        ({"protocol": "2"}, "it is of protocol 2, which a newer version reads: here is 1"),
        ({"surprise": 1}, "it holds 'surprise', which a newer version of fa-track writes"),
        ({"functional": {**WHOLE["functional"], "surprise": 1}}, "functional.surprise: "),
        ({"thresholds": {"surprise": 1}}, "thresholds.surprise: "),
        ({"functional": {}}, "functional.samples is missing"),
    ],
)
def test_newer_json_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidError) as found:
        DiagnosticReport.from_dict({**written("full"), **changes})
    assert str(found.value).startswith(says) or says in str(found.value)


def test_the_kind_of_evidence_is_that_of_the_json_whichever_class_reads_it() -> None:
    assert type(PartialReport.from_dict(WHOLE)) is DiagnosticReport
    assert type(DiagnosticReport.from_dict(PART)) is PartialReport
