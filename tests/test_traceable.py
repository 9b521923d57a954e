"""Numbers, tables and claims stay tied to the database: what is stale is found, what is cited can be traced."""

import json
import math
import re
import statistics
from importlib.resources import files
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from conftest import Cli
from shell import fa_track

from fa_tracking.cli import main
from fa_tracking.errors import UsageError
from fa_tracking.publishing import claims
from fa_tracking.publishing.claim_check import check
from fa_tracking.publishing.provenance import TABLES, cite, digest
from fa_tracking.publishing.publication import mean_and_sd
from fa_tracking.publishing.reference import spell
from fa_tracking.results.database import connect, create_views
from fa_tracking.results.files import write_whole

ROOT = Path(__file__).parent.parent
SCHEMA = (ROOT / "fa_tracking/results/schema.sql").read_text()

RUNS = [  # experiment, method, frozen, seed, accuracy, growth, margin, fires_a, fires_d
    ("e_1", "dfa", False, 1, 0.30, 200.0, -4.0, True, True),
    ("e_1", "dfa", False, 2, 0.31, math.nan, -3.0, True, True),
    ("e_1", "dfa", False, 3, 0.35, 80.0, 5.0, True, False),
    ("e_1", "dfa", True, 1, 0.34, 1.0, None, False, None),
    ("e_1", "bp", False, 1, 0.60, 2.0, 26.0, False, False),
    ("other", "bp", False, 1, 0.10, 1.0, None, False, None),
]


def write_database(path: Path, runs: list[tuple] = RUNS, source: str = "here") -> Path:
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(SCHEMA)
        create_views(connection)
        for experiment, method, frozen, seed, accuracy, growth, margin, fires_a, fires_d in runs:
            verdict = ("needs walk-back", "a") if fires_a else ("trustworthy", "")
            run = f"{experiment}-{method}-{'frozen' if frozen else 'free'}-{seed}"
            connection.execute(
                "insert into runs (run_id, source, experiment, status, artifact_uri, method, architecture, width, "
                "epochs, penalty, frozen_blocks, seed, cell) "
                "values (?, ?, ?, 'FINISHED', ?, ?, 'resmlp', 256, 30, 0, ?, ?, ?)",
                [run, source, experiment, f"{source}/{run}", method, frozen, seed, f"{method} {frozen}"],
            )
            connection.execute(
                "insert into audits (run_id, verdict, flags, headline_accuracy, max_block_growth, margin_pp, fires_a, "
                "fires_d) values (?, ?, ?, ?, ?, ?, ?, ?)",
                [run, *verdict, accuracy, growth, margin, fires_a, fires_d],
            )
            connection.execute("insert into metrics values (?, 'accuracy/test', 30, ?, '2026-01-01')", [run, accuracy])
    return path


@pytest.fixture
def database(workspace: Path) -> Path:
    return write_database(workspace / "fa_results.duckdb")


DFA = "cross_seed[experiment=e_1,method=dfa,frozen_blocks=false].accuracy_mean"
MEAN = statistics.mean([0.30, 0.31, 0.35])


def test_a_stale_number_is_named_by_file_and_line_and_mended_in_place(
    database: Path, workspace: Path, cli: Cli
) -> None:
    page = (
        "# Results\r\n\r\n"
        "| | accuracy |\r\n|---|---|\r\n"
        f"| 2 seeds | <!-- fa: {DFA} .4f -->0.9999<!-- /fa --> |\r\n\r\n"
        f"`<!-- fa: nothing in code -->` and <!-- fa: {DFA} .1% -->32.0%<!-- /fa -->\r\n\r\n"
        "<!-- fa-table: cross_seed[experiment=e_1,frozen_blocks=false] method,n,accuracy_mean -->\r\n"
        "| old |\r\n|---|\r\n<!-- /fa-table -->\r\n"
    )
    paper = (
        "\\newcommand{\\fa}[3]{#3}\n% \\fa{a comment}\n"
        f"\\fa{{{DFA.replace('_', chr(92) + '_')}}}{{.1\\%}}{{12.3\\%}} end\n"
    )
    (workspace / "page.md").write_bytes(page.encode())
    (workspace / "paper.tex").write_text(paper)
    found = cli("verify", "--left-out", "2", "page.md", "paper.tex")
    assert found.returncode == 3, found.stderr
    assert [line.split(": ")[0] for line in found.stdout.splitlines()] == ["page.md:5", "page.md:9", "paper.tex:3"]
    assert f"'0.9999' is now '{MEAN:.4f}'" in found.stdout.splitlines()[0]
    assert (workspace / "page.md").read_bytes() == page.encode()

    assert cli("verify", "page.md", "paper.tex", "--write", "--left-out", "2").returncode == 0
    spread = statistics.stdev([0.30, 0.31, 0.35])
    assert f"{spread:.1e}".startswith("2.6")
    table = "| method | n | accuracy |\r\n| --- | ---: | ---: |\r\n| bp | 1 | 0.6 |\r\n"
    table += f"| dfa | 3 | {MEAN:.3f} ± {spread:.3f} |\r\n"
    mended = page.replace("0.9999", f"{MEAN:.4f}").replace("| old |\r\n|---|\r\n", table)
    assert (workspace / "page.md").read_bytes() == mended.encode()
    assert (workspace / "paper.tex").read_text() == paper.replace("12.3", "32.0")
    assert cli("verify", "page.md", "paper.tex", "--left-out", "2").returncode == 0
    unexpected = cli("verify", "page.md", "paper.tex")
    assert unexpected.returncode == 3 and "page.md:7" in unexpected.stderr


def test_markers_that_cannot_be_computed_are_reported_one_by_one_and_unmarked_numbers_warned_of(
    database: Path, workspace: Path, cli: Cli
) -> None:
    lines = {
        "<!-- fa: cross_seed[experiment=e_1,method=dfa].n -->3<!-- /fa -->": "differ in frozen_blocks: false, true",
        "<!-- fa: cross_seed[experiment=e_1,method=ep].n -->3<!-- /fa -->": "of method there are bp, dfa",
        "<!-- fa: nope.n -->3<!-- /fa -->": "no query named 'nope'",
        "<!-- fa: cross_seed[experiment=nope].count(n) -->3<!-- /fa -->": "holds no experiment 'nope'",
        "<!-- fa: cross_seed[experiment=e_1,method=bp].n .3q -->1<!-- /fa -->": "'.3q' is no format",
        "<!-- fa: cross_seed[experiment=e_1,method=bp].method .3f -->bp<!-- /fa -->": "'bp' cannot be written",
        "<!-- fa: cross_seed[method=bp,method=dfa].n -->3<!-- /fa -->": "selected by more than once",
        "<!-- fa cross_seed.n -->3": "is malformed",
        "<!-- fa: cross_seed.n -->3": "is not closed",
    }
    text = "".join(f"{line}\n" for line in lines) + "\n| x | y |\n|---|---|\n| 1 | 0.25 |\n"
    (workspace / "bad.md").write_text(text)
    found = cli("verify", "bad.md", "--write")
    assert found.returncode == 3
    assert (workspace / "bad.md").read_text() == text
    for number, (line, says) in enumerate(zip(found.stdout.splitlines(), lines.values(), strict=True), 1):
        assert line.startswith(f"bad.md:{number}: ") and says in line
    assert f"bad.md:{len(lines) + 4}: no marker on 0.25" in found.stderr
    (workspace / "plain.md").write_text("| x | y |\n|---|---|\n| 1 | 0.25 |\n")
    plain = cli("verify", "plain.md")
    assert (plain.returncode, "no marker on" in plain.stderr) == (0, False)
    assert cli("verify", "absent.md").returncode == 2


def test_a_cited_value_names_its_runs_and_what_is_not_a_number_is_never_zero(database: Path, cli: Cli) -> None:
    cited = json.loads(cli("cite", DFA, "--number", ".3f", "--format", "json").stdout)
    assert (cited["value"], cited["text"]) == (pytest.approx(MEAN), f"{MEAN:.3f}")
    assert cited["runs"] == [f"e_1-dfa-free-{seed}" for seed in (1, 2, 3)]
    with connect(database) as connection:
        assert cited["digest"] == digest(connection, "e_1")
        audits = "audit_table[experiment=e_1,method=dfa]"
        said = {
            "cross_seed[experiment=e_1,method=bp].accuracy_sd": "not measured",
            "audit_table[experiment=e_1,method=dfa,seed=2].growth": "NaN",
            f"{audits}.min(growth)": "NaN",
            "audit_table[experiment=e_1,method=dfa,frozen_blocks=false].max(accuracy)": "0.35",
            f"{audits}.count(margin_pp)": "3",
            "audit_table[experiment=e_1,margin_pp=].seed": "1",
        }
        assert {reference: cite(connection, reference).text for reference in said} == said
        some = cite(connection, f"{audits}.avg(margin_pp)")
        assert (some.value, some.rows, some.measured) == (pytest.approx(-2 / 3), 4, 3)


def test_the_digest_is_of_the_content_not_of_the_file_the_machine_or_another_experiment(
    database: Path, tmp_path: Path
) -> None:
    def digest_of(path: Path) -> str:
        with connect(path) as connection:
            return digest(connection, "e_1")

    before = digest_of(database)
    copy = tmp_path / "copy"
    copy.mkdir()
    with duckdb.connect(str(database), read_only=True) as connection:
        for name in TABLES:
            connection.execute(f"copy (from {name} order by run_id desc) to '{copy / name}.parquet'")
    assert digest_of(copy) == before
    assert digest_of(write_database(tmp_path / "moved.duckdb", RUNS[::-1], source="there")) == before
    elsewhere = (*RUNS[-1][:4], 0.2, *RUNS[-1][5:])
    assert digest_of(write_database(tmp_path / "other.duckdb", [*RUNS[:-1], elsewhere])) == before
    changed = (*RUNS[0][:5], math.nextafter(200.0, 300.0), *RUNS[0][6:])
    assert digest_of(write_database(tmp_path / "changed.duckdb", [changed, *RUNS[1:]])) != before
    with duckdb.connect(str(database)) as connection:
        connection.execute("insert into metrics select * from metrics where run_id = 'e_1-bp-free-1'")
    assert digest_of(database) != before


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (0.36797, 0.013869, "0.368 ± 0.014"),
        (0.368, 0.0996, "0.37 ± 0.10"),
        (694.3, 118.7, "690 ± 120"),
        (3.04e-8, 1.26e-9, "(3.04 ± 0.13)e-08"),
        (0.123456, None, "0.1235"),
        (0.3, 0.0, "0.3 ± 0"),
        (25.1, 4.4e-15, "25.1 ± 0"),
        (1e-13, 1.5e-29, "1e-13 ± 0"),
        (0.0, 4.4e-15, "(0.0 ± 4.4)e-15"),
        (math.inf, 0.1, "Infinity ± 0.1"),
        (math.nan, 0.1, "NaN ± 0.1"),
        (None, None, "–"),
    ],
)
def test_a_mean_is_rounded_by_its_spread(mean: float | None, sd: float | None, text: str) -> None:
    assert mean_and_sd(mean, sd) == text


def test_a_latex_table_is_whole_escaped_and_says_n_and_digest(database: Path, workspace: Path, cli: Cli) -> None:
    done = cli("table", "audit_table", "--experiment", "e_1", "--format", "latex", "-o", "t.tex")
    assert done.returncode == 0, done.stderr
    text = (workspace / "t.tex").read_text()
    assert re.findall(r"\\(?:begin|end)\{(\w+)\}", text) == ["table", "tabular", "tabular", "table"]
    columns = len(re.findall(r"[lr]", re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)[0]))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}
    assert len(rows) == 1 + 5
    assert not re.search(r"(?<!\\)[%_#]|[‖±×Γλ]", text)
    with connect(database) as connection:
        assert "5 runs. pp: percentage points. Accuracy is a share in [0, 1]. --: not measured. In every row: " in text
        assert rf"Experiment e\_1, database digest {digest(connection, 'e_1')}." in text
    whole = json.loads(cli("table", "cross_seed", "--experiment", "e_1", "--format", "json").stdout)
    assert [row["accuracy_mean"] for row in whole] == pytest.approx([0.6, MEAN, 0.34], abs=1e-15)
    assert "<caption>" in cli("table", "cross_seed", "--experiment", "e_1", "--format", "html").stdout
    assert cli("table", "cross_seed", "--experiment", "e_1", "--column", "nope").returncode == 2


CLAIMS = """
experiment: e_1
claims:
  - {sentence: all of them, query: audit_table, where: method = 'dfa' and not frozen_blocks, holds: "flags = 'a'"}
  - {sentence: none of them, query: audit_table, where: method = 'bp', holds: "flags = 'a'"}
  - {sentence: some of them, query: select * from audits, where: "run_id like 'e_1-dfa%'", holds: fires_d}
  - {sentence: never measured, query: select * from audits, where: "run_id like '%frozen%'", holds: fires_d}
  - {sentence: no row, query: audit_table, where: method = 'ep', holds: "true"}
  - {sentence: no experiment, query: audit_table, experiment: nope, holds: "true"}
"""


def test_a_table_whose_rows_its_columns_do_not_tell_apart_says_which_do() -> None:
    asked = [
        "--experiment",
        "reproduction",
        "--db",
        str(Path(__file__).parent.parent / "docs/reference-results"),
    ]
    dfa = "cross_seed[method=dfa,frozen_blocks=false]"
    for query, columns, untold in (
        (dfa, "method,accuracy_mean", "apart, penalty, has"),
        (dfa, "method,penalty,accuracy_mean", None),
        ("cross_seed", "n", "apart, method, "),
    ):
        chosen = [word for column in columns.split(",") for word in ("--column", column)]
        done = CliRunner().invoke(main, ["table", query, *asked, *chosen], prog_name="fa-track")
        assert done.exit_code == 0, done.stderr
        assert ("look alike" in done.stderr) == bool(untold)
        assert (untold or "") in done.stderr


def test_claims_hold_are_walked_back_mixed_or_without_evidence(database: Path, workspace: Path, cli: Cli) -> None:
    (workspace / "claims.yaml").write_text(CLAIMS)
    done = cli("claims", "check", "--record", "-o", "evidence.md", "--format", "json")
    assert done.returncode == 3, done.stderr
    found = {claim["sentence"]: claim for claim in json.loads(done.stdout)}
    verdicts = ["holds", "walked back", "mixed", "no evidence", "no evidence", "no evidence"]
    assert [claim["verdict"] for claim in found.values()] == verdicts
    assert [claim["n"] for claim in found.values()] == [3, 1, 3, 0, 0, 0]
    assert (found["some of them"]["true"], found["some of them"]["unmeasured"]) == (2, 1)
    assert found["all of them"]["runs"] == [f"e_1-dfa-free-{seed}" for seed in (1, 2, 3)]
    assert "the database holds no experiment 'nope'" in found["no experiment"]["note"]
    assert (
        "| 3 | some of them | mixed | true on 2 of 3; not measured on 1 | no record |"
        in (workspace / "evidence.md").read_text()
    )

    recorded = found["all of them"]["last_held"]["date"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", recorded)
    with duckdb.connect(str(database)) as connection:
        connection.execute("update audits set flags = ''")
    later = json.loads(cli("claims", "check", "--record", "--format", "json").stdout)[0]
    assert (later["verdict"], later["last_held"]["date"]) == ("walked back", recorded)
    (workspace / "claims.yaml").write_text(CLAIMS.replace("'a'", "'b'"))
    assert json.loads(cli("claims", "check", "--format", "json").stdout)[0]["last_held"] is None
    only = {"claims": [{"sentence": "s", "query": "select 1 as x", "holds": "x = 1"}]}
    (workspace / "claims.yaml").write_text(json.dumps(only))
    assert cli("claims", "check").returncode == 0


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        ({"where": "1=1; copy runs to 'stolen.csv'"}, 'where: SQL: Parser Error: syntax error at or near ";"'),
        ({"where": "1=1) ; copy runs to 'stolen.csv'; select (1=1"}, "where: SQL: it holds several statements"),
        ({"query": "select * from read_csv('mlflow.db')"}, "disabled by configuration"),
        ({"query": "copy runs to 'stolen.csv'"}, "query: SQL: Parser Error"),
        ({"holds": "method"}, "is no condition: it gives VARCHAR"),
        ({"holds": "nope > 1"}, "nope"),
        ({"query": "nope"}, "no query named 'nope'"),
        ({"conditions": "x"}, "claims.1.conditions: Extra inputs"),
    ],
)
def test_a_claim_that_is_wrong_or_reaches_out_is_refused_in_one_line(
    claim: dict[str, str], says: str, database: Path, workspace: Path, cli: Cli
) -> None:
    whole = {"sentence": "s", "query": "audit_table", "experiment": "e_1", "holds": "true"} | claim
    (workspace / "wrong.yaml").write_text(json.dumps({"claims": [whole]}))
    done = cli("claims", "check", "wrong.yaml", "-o", "stolen.md")
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(workspace.glob("stolen*"))


def test_the_documents_hold_no_stale_number_and_the_evidence_is_what_its_command_writes(tmp_path: Path) -> None:
    reference = ["--db", str(ROOT / "docs/reference-results")]
    documents = [str(path) for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]
    command = ["verify", "--left-out", "2", *documents, *reference]
    done = fa_track(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.startswith("0 markers")
    evidence = tmp_path / "claims.md"
    command = ["claims", "check", str(ROOT / "docs/claims.yaml"), *reference, "-o", str(evidence)]
    assert fa_track(*command).returncode in (0, 3)
    assert evidence.read_text() == (ROOT / "docs/claims.md").read_text()


def test_a_claim_that_rests_on_what_is_not_finite_is_unmeasured_in_those_rows(database: Path, cli: Cli) -> None:
    (database.parent / "nan.yaml").write_text(
        "experiment: e_1\nclaims:\n"
        + "".join(
            f"  - {{sentence: s{i}, query: audit_table, where: method = 'dfa' and not frozen_blocks, holds: {holds}}}\n"
            for i, holds in enumerate(
                ["growth > 50", "growth >= 0 or growth < 0", "not (growth < 50)", "margin_pp < 50"]
            )
        )
    )
    done = cli("claims", "check", "nan.yaml", "-o", "nan.md")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (database.parent / "nan.md").read_text()
    rows = [line.split(" | ")[3] for line in text.splitlines() if re.match(r"\| \d", line)]
    assert rows[:3] == ["true on 2 of 2; not measured on 1"] * 3 and rows[3] == "true on 3 of 3"


def test_a_claims_title_and_sentence_are_no_markup(database: Path, cli: Cli) -> None:
    odd = "<script>x</script> [a](b) | *c* `d`"
    whole = {
        "title": odd,
        "experiment": "e_1",
        "claims": [{"sentence": odd, "query": "audit_table", "holds": "'`' <> ''"}],
    }
    (database.parent / "odd.yaml").write_text(json.dumps(whole))
    assert cli("claims", "check", "odd.yaml", "-o", "odd.md").returncode == 0
    from markdown_it import MarkdownIt

    page = MarkdownIt("commonmark").enable("table").render((database.parent / "odd.md").read_text())
    assert "<script>" not in page and "<a " not in page and "<em>" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt; [a](b) | *c* `d`") == 3
    assert "<code>'`' &lt;&gt; ''</code>" in page


@pytest.mark.parametrize(
    ("value", "form", "said"),
    [
        (-0.001, "+.2f", "+0.00"),
        (-0.0, "", "0"),
        (-1e-9, ".1%", "0.0%"),
        (-0.2, "+,.1f", "-0.2"),
        (-5, "d", "-5"),
        (-1234.5, ",.0f", "-1,234"),
    ],
)
def test_what_rounds_to_zero_has_no_sign(value: float, form: str, said: str) -> None:
    assert spell(value, form) == said


NAN = "'nan'::double"
RESTING = {
    "x < 1 or true": f"select {NAN} as x",
    "case when x < 1 then false else true end": f"select {NAN} as x",
    "x is distinct from 3": f"select {NAN} as x",
    "least(x, y) < 1": f"select {NAN} as x, 0.5::double as y",
    "coalesce(x, 100) > 1": f"select {NAN} as x",
    "greatest(columns(*)) > 1": f"select {NAN} as x",
    "struct_extract(kept, 'x') > 1": f"select {NAN} as x",
    "#1 > 1": f"select {NAN} as x",
    "x >= min(x) over ()": f"select unnest([0.5, {NAN}]) as x",
    "list_max(l[1]) > 0.5": f"select [[1.0::double, {NAN}]] as l",
    "s.x > 0.5": f"""select {{'x': 1.0, 'y "z': {NAN}}} as s""",
    "m['a'] > 1": f"select map{{'a': {NAN}}} as m",
    "u.b > 1": f"select {NAN}::union(a integer, b double) as u",
    "v::double > 1": f"select {NAN}::variant as v",
    "(j->>'a')::double > 1": f"select {{'a': {NAN}}}::json as j",
    "(j->>'b')::double > 1": """select '{"b": NaN}' as j""",
    "try_cast(t as double) > 1": "select ' -NaN' as t",
    "split_part(t, ',', 2)::double > 1": "select '1,nan' as t",
    "a / b > 1": "select 0.0::double as a, 0.0::double as b",
    "least(i - i, 5) > 1": "select 'inf'::double as i",
    "1 < 'nan'::double": "select 1 as x",
    "list_max(list_transform(l, lambda e: e / e)) > 1": "select [0.0::double] as l",
}
MEASURED = {
    '"a ""b" > 0.5': f'select 1.0::double as "a ""b", 0 as holds, {NAN} as other',
    "x = 1 -- c": "select\n1\nas\nx; -- c",
    "x = '; -- c'": "select '; -- c' as x;;",
    "array_distance(v, array_value(0.0::double, 0.0::double)) > 1": "select [1.0, 2.0]::double[2] as v",
    "told = 1 and kept = 2": "select 1 as told, 2 as kept",
    "random() + x > 0": "select 1 as x",
    "t <> ''": "select 'nan-test' as t",
    "case when t = 'a' then true else t::int > 1 end": "select 'a' as t",
}


def judged(query: str, holds: str, **more: str) -> str:
    claim = claims.Claim(sentence="s", query=query, holds=holds, **more)
    with duckdb.connect() as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
        return check(connection, claims.Claims(claims=(claim,)), {})[0].verdict


@pytest.mark.parametrize("holds", RESTING)
def test_a_claim_that_is_judged_by_a_nan_is_not_measured(holds: str) -> None:
    assert judged(RESTING[holds], holds) == claims.NO_EVIDENCE


@pytest.mark.parametrize("holds", MEASURED)
def test_a_claim_asks_for_columns_of_any_name_and_kind(holds: str) -> None:
    assert judged(MEASURED[holds], holds) == claims.HOLDS


def test_a_row_that_is_chosen_by_a_nan_is_not_measured() -> None:
    assert judged(f"select {NAN} as x, 1 as y", "y = 1", where="x > 1") == claims.NO_EVIDENCE


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"holds": "x < (select 2)"}, "holds: .* asks other rows"),
        ({"holds": "true", "where": "exists(select 1)"}, "where: .* asks other rows"),
        ({"holds": "false) , (true"}, "several conditions"),
    ],
)
def test_a_condition_is_one_and_of_one_row(more: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        judged("select 1 as x", **more)


def test_the_evidence_never_takes_the_place_of_the_claims(database: Path, cli: Cli) -> None:
    file = database.parent / "own.yaml"
    file.write_text(json.dumps({"claims": [{"sentence": "s", "query": "from runs", "holds": "true"}]}))
    before = file.read_text()
    for target in ("own.yaml", "own.history.json"):
        done = cli("claims", "check", "own.yaml", "-o", target)
        assert (
            done.returncode == 2 and "give another file with -o" in done.stderr and len(done.stderr.splitlines()) == 1
        )
    assert file.read_text() == before


def test_a_file_beside_a_document_is_nobodys_to_overwrite(database: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "a.md.part").symlink_to(tmp_path / "victim")
    (tmp_path / "a.md").write_text("old")
    (tmp_path / "a.md").chmod(0o600)
    write_whole(tmp_path / "a.md", b"new")
    assert (tmp_path / "victim").read_text() == "mine" and (tmp_path / "a.md").read_text() == "new"
    assert (tmp_path / "a.md").stat().st_mode & 0o777 == 0o600 and len(list(tmp_path.iterdir())) == 3
