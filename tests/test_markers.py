"""What of a document is a marker, and what is code, verbatim or a comment: by CommonMark and LaTeX, not by looks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fa_tracking.publishing.reference import Answers
from fa_tracking.publishing.verify import verify
from fa_tracking.results.database import connect

REFERENCE = Path(__file__).parents[1] / "docs/reference-results"
VALUE = "cross_seed[experiment=reproduction,method=bp,frozen_blocks=false,penalty=0].n"
STALE = f"<!-- fa: {VALUE} d -->777<!-- /fa -->"
LATEX = f"\\fa{{{VALUE}}}{{d}}{{777}}"


@pytest.fixture(scope="module")
def answers() -> Iterator[Answers]:
    with connect(str(REFERENCE)) as connection:
        yield Answers(connection)


def verified(answers: Answers, text: str, name: str = "page.md") -> Any:
    return verify(Path(name), text, answers)


IN_TEXT = {
    "three ticks within a line": f"Write ```code``` and {STALE}\n\n``` `` ``` then {STALE}\n",
    "three ticks in the middle of a paragraph": f"a\nuse ``` to begin\n{STALE}\n\nand ``` to end {STALE}\n",
    "a fence in a list that the list ends": f"- a\n  ```\n  code\n\n{STALE}\n\n- b\n{STALE}\n",
    "a fence in a quotation that the quotation ends": f"> ```\n> code\n\n{STALE}\n\n```\ncode\n```\n{STALE}\n",
    "stray ticks in two paragraphs": f"a ` b {STALE}\n\nc ` d {STALE}\n",
    "a tick that a list item ends": f"- a ` b\n- {STALE}\n- c ` d {STALE}\n",
    "an escaped tick": f"\\` {STALE} \\` {STALE}\n",
    "a longer fence than the one within": f"````\n```\n````\n{STALE}\n\n```\n```\n{STALE}\n",
    "a fence with another letter within": f"~~~\n```\n~~~\n{STALE}\n\n{STALE}\n",
    "a tick in an info string": f"``` a`b\n{STALE}\n\n{STALE}\n",
    "a table's cells beside code": f"| a | b | c |\n|---|---|---|\n| x ` | {STALE} | ` {STALE} |\n",
    "four blanks that go on with a paragraph": f"text\n    {STALE} more\n    {STALE}\n",
    "a comment of another kind with a tick": f"<!-- ` --> {STALE} ` {STALE}\n",
    "a link with ticks in its address": f"[a](<b`c>) {STALE} ` {STALE}\n",
    "emphasis, a heading and a list": f"# {STALE}\n\n1. **{STALE}**\n",
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("text", IN_TEXT.values(), ids=IN_TEXT.keys())
def test_a_stale_number_in_text_is_found_whatever_ticks_stand_around_it(answers: Answers, text: str, ends: str) -> None:
    found = verified(answers, text.replace("\n", ends))
    assert [f.stale for f in found.findings] == [True, True] and not found.left_out
    assert found.text == text.replace("\n", ends).replace("777", found.findings[0].new)


IN_CODE = {
    "a fence": f"```\n{STALE}\n```\n",
    "a fence in a list": f"- a\n\n  ```sh\n  {STALE}\n  ```\n",
    "a fence that nobody closes": f"~~~\n{STALE}\n\ntext\n",
    "four blanks": f"text\n\n    {STALE}\n",
    "a tab": f"text\n\n\t{STALE}\n",
    "ticks": f"a `{STALE}` b\n",
    "two ticks around one": f"a ``x ` {STALE}`` b\n",
    "ticks over two lines": f"a `x\nb {STALE}` c\n",
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("text", IN_CODE.values(), ids=IN_CODE.keys())
def test_a_marker_in_code_is_no_value_and_is_counted(answers: Answers, text: str, ends: str) -> None:
    found = verified(answers, text.replace("\n", ends))
    at = text[: text.index("<!--")].count("\n") + 1
    assert not found.findings and found.left_out == [at] and found.text == text.replace("\n", ends)


def test_an_escaped_marker_is_counted_and_what_closes_it_closes_nothing(answers: Answers) -> None:
    found = verified(answers, f"a \\{STALE}\n")
    assert found.left_out == [1] and "closes nothing" in str(found.findings[0].problem)


IN_LATEX = {
    "a per cent sign in verb": f"\\verb|%| {LATEX} \\verb+100%+ {LATEX}\n",
    "a per cent sign in an address": f"\\url{{http://a/b%20c}} {LATEX}\n\\href{{x%y}}{{z}} {LATEX}\n",
    "an escaped per cent sign": f"5\\% {LATEX} \\\\ {LATEX}\n",
    "verbatim that ends": f"\\begin{{verbatim*}}\n% {{\n\\end{{verbatim*}} {LATEX} {LATEX}\n",
    "a listing within a line": f"\\lstinline[language=C]!a % b! {LATEX} \\mintinline{{c}}{{%}} {LATEX}\n",
    "verbatim that is named in a comment": f"% \\begin{{verbatim}}\n{LATEX}\n% \\end{{verbatim}}\n{LATEX}\n",
    "verbatim that is named in verb": f"\\verb|\\begin{{verbatim}}| {LATEX} {LATEX}\n",
}


@pytest.mark.parametrize("text", IN_LATEX.values(), ids=IN_LATEX.keys())
def test_a_stale_number_in_latex_is_found_whatever_per_cent_signs_stand_around_it(answers: Answers, text: str) -> None:
    found = verified(answers, text, "paper.tex")
    assert [f.stale for f in found.findings] == [True, True] and not found.left_out
    assert found.text == text.replace("777", found.findings[0].new)


@pytest.mark.parametrize(
    "text",
    [
        f"a % {LATEX}\n",
        f"a \\\\% {LATEX}\n",
        f"\\verb|{LATEX}|\n",
        f"\\begin{{verbatim*}}\n{LATEX}\n\\end{{verbatim*}}\n",
        f"\\begin{{minted}}{{tex}}\n{LATEX}\n\\end{{minted}}\n",
        f"\\begin{{comment}}\n{LATEX}\n\\end{{comment}}\n",
        f"\\begin{{verbatim}}\n{LATEX}\n",
    ],
)
def test_a_macro_in_a_comment_or_verbatim_is_no_value_and_is_counted(answers: Answers, text: str) -> None:
    found = verified(answers, text, "paper.tex")
    assert not found.findings and len(found.left_out) == 1 and found.text == text


OPEN = f"<!-- fa: {VALUE} d -->"
TABLE = "<!-- fa-table: cross_seed[experiment=reproduction] method,n -->"
OLD = "| a | b |\n|---|---|\n| 1 | 2 |"


@pytest.mark.parametrize(
    "text",
    [
        f"{OPEN}777\n\nA paragraph.\n\nAnother <!-- /fa -->\n",
        f"{OPEN}777\r\n \t\r\nA paragraph.<!-- /fa -->\r\n",
        f"a {OPEN}777 and `code`, see <!-- /fa -->\n",
        f"a {OPEN}777\n```\ncode\n```\n<!-- /fa -->\n",
        f"a {OPEN}777\n- an item\n- another <!-- /fa -->\n",
        f"a {OPEN}777\n# A heading\n<!-- /fa -->\n",
        f"> a {OPEN}777\n>\n> prose <!-- /fa -->\n",
        f"| a | b |\n|---|---|\n| {OPEN}777 | prose <!-- /fa --> |\n",
        f"a {OPEN}777\n> quoted prose\n\n<!-- /fa -->\n",
        f"a {OPEN}777\n===\n\nmore <!-- /fa -->\n",
        f"a {OPEN}777\n***\n\nmore <!-- /fa -->\n",
        f"a {OPEN}777\n<div>prose</div>\n\n<!-- /fa -->\n",
        f"a {OPEN}777\r\rA paragraph.\r\rMore <!-- /fa -->\r",
        f"a [b {OPEN}777](url) <!-- /fa -->\n",
        f"a {OPEN}777 ![image](url) <!-- /fa -->\n",
        f"a {OPEN}777 <!-- to do --> more <!-- /fa -->\n",
        f"{TABLE}\n\nThe prose P(a|b) matters.\n\n<!-- /fa-table -->\n",
        f"{TABLE}\n## Results | discussion\n\n<!-- /fa-table -->\n",
        f"{TABLE}\n| a |\n|---|\n| 1 |\n\n| b |\n|---|\n| 2 |\n\n<!-- /fa-table -->\n",
        f"{TABLE}\n| method | n |\n|---|---|\n\nA paragraph.\n\n<!-- /fa-table -->\n",
        f"{TABLE}\n\n```\ncode\n```\n<!-- /fa-table -->\n",
        f"![a {OPEN}777](u.png) and this sentence <!-- /fa -->\n",
        f"[![a {OPEN}777](u)](v) x <!-- /fa -->\n",
        f'<a title="{OPEN}777 prose <!-- /fa -->">x</a>\n',
        f'<div title="{OPEN}777 prose <!-- /fa -->">x</div>\n',
        f'<div title="{OPEN}777 prose <!-- /fa -->\n\n">x</div>\n',
        f"<div>\n<b>{OPEN}777</b> prose <!-- /fa -->\n</div>\n",
        f"<script>\n{OPEN}777<!-- /fa -->\n</script>\n",
        f"a {OPEN}**777**<!-- /fa -->\n",
        f"{TABLE} prose\n\n{OLD}\n<!-- /fa-table -->\n",
        f"{TABLE} <!-- keep -->\n\n{OLD}\n<!-- /fa-table -->\n",
        f"prose {TABLE}\n{OLD}\n<!-- /fa-table -->\n",
        f"{TABLE}\n\n{OLD}\n<!-- keep --> <!-- /fa-table -->\n",
        f"{TABLE}\n{OLD} <!-- /fa-table -->\n",
        f"<p>\n{TABLE}\nkeep this line\n\n{OLD}\n<!-- /fa-table -->\n",
        f"{TABLE}\n\n[keep]: http://x\n\n{OLD}\n<!-- /fa-table -->\n\n[keep]\n",
        f"{TABLE}\n\n[keep]: http://x\n\n<!-- /fa-table -->\n",
        f"{TABLE}\n|x| is a norm, this is prose\n<!-- /fa-table -->\n",
        f"{TABLE}\n|x|\n<!-- /fa-table -->\n",
        f"{TABLE}\n{OLD}\n: Caption\n<!-- /fa-table -->\n",
        f"{TABLE}\n{OLD}\n|x| is a norm\n<!-- /fa-table -->\n",
        f"{TABLE}\n> | a |\n> |---|\n\n<!-- /fa-table -->\n",
    ],
)
def test_prose_after_a_marker_that_nobody_closed_is_never_deleted(answers: Answers, text: str) -> None:
    found = verified(answers, text)
    assert found.text == text
    assert [bool(f.problem) for f in found.findings] == [True] and "not closed" in str(found.findings[0].problem)


def test_a_blank_line_in_a_value_of_latex_makes_it_no_value(answers: Answers) -> None:
    text = LATEX.replace("777", "777\n\nprose")
    found = verified(answers, text, "paper.tex")
    assert found.text == text and found.findings[0].problem


@pytest.mark.parametrize("value", ["", "777", "not\nmeasured", "-3.2e-07", "needs walk-back: a"])
def test_a_value_of_one_paragraph_is_brought_up_to_date(answers: Answers, value: str) -> None:
    found = verified(answers, f"a {OPEN}{value}<!-- /fa -->\n")
    assert (found.findings[0].stale and value not in found.text[len(OPEN) :]) or not value


def test_a_table_whose_selection_matches_no_row_is_an_error(answers: Answers) -> None:
    text = f"{TABLE.replace('] ', ',method=none] ')}\n{OLD}\n<!-- /fa-table -->\n"
    found = verified(answers, text)
    assert found.text == text and "matches no row: of method there are" in str(found.findings[0].problem)


def test_a_number_in_code_is_not_warned_of_and_one_in_a_table_within_a_list_is(answers: Answers) -> None:
    rows = "| a | b |\n|---|---|\n| 1 | `2` |\n| 3 | 4 |\n"
    listed = "- x\n\n" + "".join(f"  {line}\n" for line in rows.splitlines())
    found = verified(answers, f"{STALE}\n\n{rows}\n{listed}")
    assert found.unmarked == [(6, ["4"]), (13, ["4"])]


@pytest.mark.parametrize("between", ["", "\n", f"{OLD}\n", f"\n{OLD}\n\n"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_nothing_or_a_table_between_its_markers_is_brought_up_to_date(
    answers: Answers, between: str, ends: str
) -> None:
    found = verified(answers, f"{TABLE}\n{between}<!-- /fa-table -->\n".replace("\n", ends))
    assert found.findings[0].stale and not verified(answers, found.text).findings[0].stale


@pytest.mark.parametrize("text", ["<td>{}</td>\n", "a <b>{}</b> <!-- z -->\n", "[{}](/u)\n", "<div>\n{}\n</div>\n"])
def test_a_value_within_html_is_brought_up_to_date(answers: Answers, text: str) -> None:
    assert [f.stale for f in verified(answers, text.format(STALE)).findings] == [True]


@pytest.mark.parametrize("begins", ["a ", ""])
def test_a_marker_of_several_lines_in_a_quotation_is_read_without_its_signs(answers: Answers, begins: str) -> None:
    found = verified(answers, f"> {begins}<!-- fa:\n> {VALUE}\n> d -->777<!-- /fa -->\n")
    assert [f.stale for f in found.findings] == [True] and found.findings[0].reference == f" {VALUE} d".strip()


@pytest.mark.parametrize("begins", ["> ", "  ", "> > "])
def test_a_table_stays_in_its_quotation_or_list(answers: Answers, begins: str) -> None:
    head = "- x\n\n" if begins == "  " else ""
    text = head + f"{begins}{TABLE}\n{begins}| old |\n{begins}|---|\n{begins}<!-- /fa-table -->\n"
    written = verified(answers, text).text
    lines = written.removeprefix(head).splitlines()
    assert len(lines) > 4 and all(line.startswith(begins) for line in lines)
    assert not verified(answers, written).findings[0].stale


def test_a_comment_of_several_lines_and_a_document_with_a_mark_of_byte_order_are_read(answers: Answers) -> None:
    several = STALE.replace("<!-- fa: ", "<!-- fa:\n").replace(" d -->", "\nd -->")
    found = verified(answers, f"\ufeff```\ncode\n```\n\nText {several} more\n\n> quoted {STALE}\n")
    assert [f.stale for f in found.findings] == [True, True] and not found.left_out


def test_numbers_that_look_like_those_of_the_reader_are_text(answers: Answers) -> None:
    found = verified(answers, f"`{STALE}` <!--fa0.--> <!--fa1.--> <!--fa{'9' * 5000}.-->\n")
    assert not found.findings and found.left_out == [1]


@pytest.mark.parametrize(
    "text",
    [f"a \\\\def {LATEX}\n", f"\\string\\def {LATEX}\n", f"\\url|a%20b| {LATEX}\n", f"\\href[x]{{a%b}}{{z}} {LATEX}\n"],
)
def test_what_looks_like_a_definition_or_a_comment_in_latex_is_none(answers: Answers, text: str) -> None:
    assert [f.stale for f in verified(answers, text, "paper.tex").findings] == [True]


@pytest.mark.parametrize(
    "command",
    [
        "\\gdef",
        "\\DeclareRobustCommand",
        "\\NewDocumentCommand",
        "\\NewExpandableDocumentCommand",
        "\\newrobustcmd",
        "\\let",
        "\\ifdefined",
        "\\string",
    ],
)
def test_a_definition_of_the_macro_is_no_marker(answers: Answers, command: str) -> None:
    assert not verified(answers, f"{command}{{\\fa}}[3]{{#3}}\n", "paper.tex").findings
    assert not verified(answers, f"{command}\\fa\\relax\n", "paper.tex").findings


@pytest.mark.parametrize("value", ["a\\_b", "5\\%", "x \\textless{} y", "$\\pm$ 3", "R\\&D"])
def test_a_value_of_latex_may_hold_what_is_escaped(answers: Answers, value: str) -> None:
    assert verified(answers, LATEX.replace("777", value), "paper.tex").findings[0].stale


@pytest.mark.parametrize(
    "value",
    [
        "777\\par more",
        "777% keep this\n",
        "777\n\n more",
        "777 & 888",
        "777 \\\\ next",
        "777\\footnote\\x",
        "777\\newline x",
    ],
)
def test_a_value_of_latex_ends_where_its_paragraph_or_line_ends(answers: Answers, value: str) -> None:
    text = LATEX.replace("777", value)
    found = verified(answers, text, "paper.tex")
    assert found.text == text and found.findings[0].problem
