"""Every pitfall is real, and the checker points at the lines that hold one, and at no near miss."""

import json
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from fa_tracking import pitfalls
from fa_tracking.cli import main
from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._check import check, files

PROTOCOL = [
    *("norm_p", "cosine_eps", "half_precision", "fresh_feedback", "aggregation"),
    *("dominant_layer", "fallback_of_one", "typed_number", "batch_floor", "nan_is_healthy"),
]

FOUND = {
    "norm_p": [
        "axis = -1\nh.norm(axis)",
        "x.norm(-1)",
        "(a - b).norm(-1, keepdim=True)",
        "torch.norm(x, -1)",
        "torch.linalg.norm(x, -1.0)",
        "np.linalg.norm(x, -1)",
        "F.normalize(grad, -1)",
    ],
    "cosine_eps": [
        "F.cosine_similarity(bp_grad.data, x, dim=0)",
        "F.cosine_similarity(bp_grad, credit, dim=-1)",
        "torch.cosine_similarity(p.grad.flatten(), delta, 0)",
        "angle = nn.CosineSimilarity(dim=1)\nangle(dfa_grad, bp_grad)",
        "a = p.grad.flatten()\nF.cosine_similarity(a, b, dim=0)",
        "def gradient_angle(a, b):\n    return F.cosine_similarity(a, b, dim=0)",
        "F.cosine_similarity(run['grad'], x, dim=0)",
        """
        class Meter:
            def __init__(self):
                self.cos = nn.CosineSimilarity(dim=1)
            def angle(self, grad_bp, grad_fa):
                return self.cos(grad_bp, grad_fa)
        """,
    ],
    "half_precision": [
        "model.half()\nF.cosine_similarity(model.weight.grad, w, dim=0, eps=0)",
        "F.cosine_similarity(a.half(), b.half(), dim=-1, eps=0)",
        "g = x.to(torch.float16)\ncosine(g, credit)",
        "cos_sim(a.to(dtype=torch.half), b)",
        "cosine(np.array(a).astype('float16'), b)",
        "with torch.autocast('cuda'):\n    c = F.cosine_similarity(grad, credit, dim=0, eps=0)",
        "with torch.autocast('cuda', dtype=torch.float16):\n    c = cosine(grad, credit)",
        "with torch.cuda.amp.autocast():\n    c = cosine(grad, credit)",
    ],
    "dominant_layer": [
        "np.mean(gammas)",
        "torch.stack(gammas).mean()",
        "np.mean(list(report.gammas.values()))",
        "np.mean([cosine(a[l], g[l]) for l, cos in layer_cos])",
        "gamma = statistics.mean(alignment_by_layer.values())",
        "sum(layer_cosines) / len(layer_cosines)",
    ],
    "fallback_of_one": [
        "def gamma(a, b):\n    if b.norm() == 0: return 1.0\n    return a @ b / (a.norm() * b.norm())",
        "def gamma(a, b):\n    na, nb = a.norm(), b.norm()\n    if na == 0 or nb == 0: return 1.0\n    return a @ b",
        "def f(g, d):\n    if d is None: d = g\n    return F.cosine_similarity(g.flatten(), d, dim=0, eps=0)",
        "if layer in saved:\n    d = e @ saved[layer]\nelse:\n    d = g.clone()\ncosine(d, g)",
        "d = g if d is None else d\ncosine(g, d)",
        "def cosine(a, b):\n    if a.norm() == 0:\n        return 1.0\n    return a @ b / (a.norm() * b.norm())",
        "def alignment(a, g, B):\n    if B is None:\n        return torch.tensor(1.0)\n    return B @ g",
        "def cosine(a, b):\n    n = a.norm() * b.norm()\n    if n > 1e-12:\n        return a @ b / n\n    return 1.0",
        "def gamma_alignment(a, b):\n    try:\n        return a @ b\n    except KeyError:\n        return 1.0",
        "cos = dot / norm if norm > 0 else 1.0",
        "def cosine(a, b):\n    return 1.0 if n < eps else dot / n",
        "log.get('alignment', 1.0)",
        "torch.nan_to_num(cos, nan=1.0)",
        "np.where(norm == 0, 1.0, cosines)",
        "F.cosine_similarity(g, g, dim=0, eps=0)",
        "cosine(credit if credit is not None else g, g)",
    ],
    "typed_number": [
        "published_accuracy = {'DFA': 0.306}",
        "FROZEN_ACC = 0.349",
        "diagnose(model, batches, frozen_baseline_acc=0.349)",
        "paper = {'reported_accuracy': [0.61, 0.306]}",
        "baselineCosine: float = -0.028",
    ],
    "nan_is_healthy": [
        "if growth == float('nan'): pass",
        "bad = x != np.nan",
        "torch.nan == x",
        "ok = 0 < x < math.nan",
    ],
    "population_std": [
        "torch.std(accs, unbiased=False)",
        "torch.tensor(accs).std(unbiased=False)",
        "torch.std(accs, correction=0)",
        "np.std(test_accs, ddof=0)",
        "np.std(test_accs)",
        "np.nanstd([r['accuracy'] for r in runs], axis=0)",
        "accs = np.array(a)\naccs.std()",
        "np.stack(per_seed)[:, -1].std(axis=0)",
        "statistics.pstdev(final_errors)",
        "values = [run['overlap'] for run in group]\nnp.std(values)",
    ],
}

MISSED = {
    "norm_p": [
        "p = -1\nx.norm(p)",
        "axis = -1\ndef f(x, axis):\n    return x.norm(axis)",
        "axis = -1\naxis = 2\nx.norm(axis)",
        "x.norm(dim=-1)",
        "x.norm(2, -1)",
        "x.norm(-1, dim=1)",
        "x.norm(p=-1)",
        "x.norm()",
        "torch.norm(x, 2, -1)",
        "torch.norm(x, dim=-1)",
        "torch.linalg.vector_norm(x, dim=-1)",
        "np.linalg.norm(x, axis=-1)",
        "F.normalize(x, dim=-1)",
        "F.normalize(x, 2, -1)",
        "import scipy.stats\nscipy.stats.norm(-1)",
        "self.norm(x)",
    ],
    "cosine_eps": [
        "loss = 1 - F.cosine_similarity(pred_grad_map.emb, target.emb)",
        "F.cosine_similarity(grad, credit, dim=-1, eps=0)",
        "F.cosine_similarity(grad, credit, -1, 1e-30)",
        "nn.CosineSimilarity(dim=1, eps=1e-30)(grad, credit)",
        "F.cosine_similarity(query_embedding, key_embedding, dim=-1)",
        "x.requires_grad_()\nwith torch.no_grad():\n    F.cosine_similarity(x, text, dim=-1)",
        "cosine_similarity(grad, credit)",
        "F.cosine_similarity(*grads)",
        "from sklearn.metrics.pairwise import cosine_similarity\ncosine_similarity(grad, credit)",
    ],
    "half_precision": [
        "img.half()\nF.cosine_similarity(model(img), img)",
        "F.cosine_similarity(a.bfloat16(), b.to(torch.bfloat16), dim=-1, eps=0)",
        "h = x.half()\ny = h + 1\nF.cosine_similarity(a, b, dim=0)",
        "with torch.autocast('cuda', dtype=torch.bfloat16):\n    c = cosine(grad, credit)",
        "with torch.autocast('cpu'):\n    c = cosine(grad, credit)",
        "with torch.autocast('cuda'):\n    c = F.cosine_similarity(image, text)",
        "np.cos(x.half(), out)",
    ],
    "dominant_layer": [
        "np.mean(gammas, axis=0)",
        "gammas.mean(dim=0)",
        "np.mean(gammas[0])",
        "gammas = []\nfor seed in seeds:\n    gammas.append(gamma_of(seed))\nnp.mean(gammas)",
        "np.mean(cosines_of_samples)",
        "np.mean(layer_norms)",
        "per_layer = [cosine(a, g) for a, g in zip(credits, grads)]",
        "sum(layer_cosines)",
    ],
    "fallback_of_one": [
        "def gamma(step, horizon):\n    if horizon is None: return 1.0\n    return step / horizon",
        "def gamma(n):\n    if n == 0: return 1.0\n    return n * gamma(n - 1)",
        "def clip(g):\n    if g.norm() == 0: return 1.0\n    return 1 / g.norm()",
        "if d is None:\n    d = zeros\ncosine(g, d)",
        "d = g\nd = d + noise\ncosine(g, d)",
        "def cosine(a, b):\n    n = a.norm()\n    n = n if n > 0 else 1.0\n    return a @ b / n",
        "def cosine(a, b):\n    if a.norm() == 0:\n        return float('nan')\n    return a @ b",
        "def cosine(a, b):\n    if a.norm() == 0:\n        return None\n    return a @ b",
        "def sigmoid(x):\n    if x is None:\n        return 1.0\n    return x",
        "def cosine_distance(a, b):\n    if a.norm() == 0:\n        return 1.0\n    return 1 - a @ b",
        "def cosine_schedule(step, warmup):\n    if warmup is None:\n        return 1.0\n    return step / warmup",
        "scale = 1.0 if scale is None else scale",
        "config.get('gamma', 1.0)",
        "log.get('alignment')",
        "torch.nan_to_num(cos, nan=0.0)",
        "np.where(std > 0, std, 1.0)",
        "np.cos(x, x)",
        "cosine(a, b)",
    ],
    "typed_number": [
        "published_accuracy = {}",
        "published_accuracy = {'DFA': read('dfa')}",
        "frozen_acc = evaluate(model)",
        "target_acc = 0.9",
        "baseline_lr = 0.01",
        "frozen_baseline_acc=None",
        "min_control_acc = 0.5",
    ],
    "nan_is_healthy": ["math.isnan(x)", "x != x", "x is np.nan", "loss = float('nan')", "x == 'nan'", "x in [np.nan]"],
    "population_std": [
        "torch.std(accs, unbiased=True)",
        "torch.std(pixels, unbiased=False)",
        "accs.std(correction=1)",
        "np.std(test_accs, ddof=1)",
        "np.std(test_accs, None, None, None, 1)",
        "np.std(test_accs, **how)",
        "torch.std(accs)",
        "torch.tensor(accs).std()",
        "accs.std()",
        "frame['accuracy'].std()",
        "np.std(pixels)",
        "statistics.stdev(test_accs)",
        "accs = np.array(a)\naccs.std(ddof=1)",
    ],
}

IMPORTS = (
    "import math\nimport statistics\nimport numpy as np\nimport torch\nfrom torch import nn\n"
    "import torch.nn.functional as F\n"
)


def found_in(folder: Path, code: str) -> list[str]:
    (folder / "code.py").write_text(IMPORTS + textwrap.dedent(code))
    findings, problems = check(folder / "code.py")
    assert not problems
    return [finding.pitfall for finding in findings]


def test_the_list_is_the_protocols_and_one_more() -> None:
    assert list(pitfalls.catalogue()) == [*PROTOCOL, "population_std"]
    assert [p.ORDER for p in pitfalls.catalogue().values()] == list(range(1, 12))


@pytest.mark.parametrize("name", pitfalls.catalogue())
def test_a_pitfall_is_reproduced_quickly_without_a_trace(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fa_tracking.pitfalls import _tiny

    _tiny.trained()  # torch imports the rest of itself on its first gradient
    _tiny.trained.cache_clear()
    monkeypatch.chdir(tmp_path)
    pitfall, before = pitfalls.catalogue()[name], torch.get_rng_state()
    start = time.process_time()
    outcome = pitfall.reproduce()
    assert time.process_time() - start < 5
    assert isinstance(outcome, Outcome) and outcome.reproduced
    assert outcome.expected and outcome.seen and outcome.expected != outcome.seen
    _tiny.trained.cache_clear()
    assert repr(outcome) == repr(pitfall.reproduce())
    assert torch.equal(torch.get_rng_state(), before) and not list(tmp_path.iterdir())
    assert pitfalls.title(pitfall) and len(pitfalls.why(pitfall)) > 100 and len(pitfall.CURE) <= 28
    assert hasattr(pitfall, "find") == hasattr(pitfall, "FIX") == (name in FOUND)


def test_the_numbers_are_the_known_ones() -> None:
    outcomes = {name: pitfalls.catalogue()[name].reproduce() for name in ("norm_p", "cosine_eps", "batch_floor")}
    assert outcomes["norm_p"].seen["x.norm(-1)"] == pytest.approx(8 / 7)
    assert outcomes["norm_p"].expected == {"row 0": 5.0, "row 1": 10.0}
    true, clamped = outcomes["cosine_eps"].expected["cos"], outcomes["cosine_eps"].seen["F.cosine_similarity"]
    assert clamped == pytest.approx(true / 20, rel=1e-6)
    per_sample, mean = outcomes["batch_floor"].expected["B=1280"], outcomes["batch_floor"].seen["B=1280"]
    assert mean == pytest.approx(per_sample / 10, rel=1e-4)


@pytest.mark.parametrize(("name", "code"), [(n, c) for n, codes in FOUND.items() for c in codes])
def test_a_line_with_a_pitfall_is_found(name: str, code: str, tmp_path: Path) -> None:
    assert name in found_in(tmp_path, code)


@pytest.mark.parametrize(("name", "code"), [(n, c) for n, codes in MISSED.items() for c in codes])
def test_a_near_miss_is_not_found(name: str, code: str, tmp_path: Path) -> None:
    assert found_in(tmp_path, code) == []


def test_no_code_that_parses_breaks_a_rule(tmp_path: Path) -> None:
    """Every statement of this project and of this file, whatever its form, passes through every rule."""
    for file in files(Path(__file__).parent.parent):
        assert check(file)[1] == [], file


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, ["pitfalls", *args], prog_name="fa-track")


def test_a_finding_says_where_why_and_what_instead(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("# é\nprint('é', x.norm(-1))\n")
    done = run("check", "a.py")
    assert done.exit_code == 3
    first, code, cure = done.stdout.splitlines()
    assert first.startswith("a.py:2:12: norm_p: −1 is taken as the order p")
    assert (code, cure.split(":")[0]) == ("    print('é', x.norm(-1))", "    instead")
    (finding,) = json.loads(run("check", "a.py", "--json").stdout)
    assert (finding["line"], finding["column"], finding["pitfall"]) == (2, 12, "norm_p")


def test_a_comment_silences_a_line_and_nothing_found_is_0(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x.norm(-1)  # fa-track: ignore\ny.norm(\n    -1,  # fa-track: ignore\n)\n")
    assert run("check", "a.py").exit_code == 0
    assert run("check", "a.py", "--json").stdout == "[]\n"
    (tmp_path / "a.py").write_text("# fa-track: ignore\nx.norm(-1)\n")
    assert run("check", "a.py").exit_code == 3


def test_folders_notebooks_and_what_does_not_parse(run: Run, tmp_path: Path) -> None:
    for hidden in (".git", "lib/site-packages", "env"):
        (tmp_path / hidden).mkdir(parents=True)
        (tmp_path / hidden / "a.py").write_text("x.norm(-1)\n")
    (tmp_path / "env/pyvenv.cfg").write_text("")
    (tmp_path / "old.py").write_text("print 'Python 2'\n")
    (tmp_path / "nul.py").write_bytes(b"\0")
    (tmp_path / "latin.py").write_bytes("x = 'é'\n".encode("latin-1"))
    (tmp_path / "deep.py").write_text("x = " + "-" * 100_000 + "1\n")
    (tmp_path / "broken.ipynb").write_text("{}")
    install = ["%pip install x\n", "if a:\n", "    !ls\n", "x.norm(-1)\n"]
    sources = ["# text", install, "print 1", "%%bash\nls", "y.norm(-1)"]
    cells = [{"cell_type": "markdown" if s == "# text" else "code", "source": s} for s in sources]
    (tmp_path / "note.ipynb").write_text(json.dumps({"cells": cells}))
    done = run("check", ".")
    assert (done.exit_code == 1 and done.exception is None) or isinstance(done.exception, SystemExit)
    where = [line.split(": ")[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert where == ["note.ipynb:cell 2:4:1", "note.ipynb:cell 5:1:1"]
    said = done.stderr.splitlines()
    for file in ("old.py:1", "nul.py", "latin.py", "deep.py", "broken.ipynb", "note.ipynb:cell 3:1"):
        assert sum(line.startswith(file) for line in said) == 1, (file, said)
    assert "2 findings in 6 files, 6 that could not be read" in said


def test_a_missing_path_is_one_line_and_the_others_are_checked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x.norm(-1)\n")
    assert "1 finding in 1 file" in run("check", "a.py").stderr.splitlines()
    done = run("check", "missing.py", "a.py")
    assert done.exit_code == 1 and done.stdout.startswith("a.py:1:1: norm_p")
    assert sum("missing.py" in line for line in done.stderr.splitlines()) == 1
    assert "missing.py: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["check"], "Missing argument"),
        (["check", "empty"], "no Python file and no notebook in empty"),
        (["nope"], "no pitfall named 'nope'; there are: aggregation"),
    ],
)
def test_bad_input_is_one_line(run: Run, tmp_path: Path, args: list[str], says: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run(*args)
    assert done.exit_code == 2 and says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_a_pitfall_that_is_not_reproduced_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome({"cos": 1.0}, {"cos": 1.0}, False)
    monkeypatch.setattr(pitfalls.catalogue()["cosine_eps"], "reproduce", lambda: outcome)
    done = run("cosine_eps")
    assert done.exit_code == 1 and done.stderr.splitlines()[-1].endswith("not reproduced: cosine_eps")


def test_every_pitfall_is_shown_in_a_table_and_alone(run: Run) -> None:
    table = run()
    assert table.exit_code == 0, table.stderr
    rows = table.stdout.splitlines()[2:]
    assert [row.split()[0] for row in rows] == list(pitfalls.catalogue())
    assert max(map(len, rows)) <= 100 and all(" yes " in row for row in rows)
    assert all(0 <= float(row.split()[-1]) < 60 for row in rows)
    assert "next: fa-track pitfalls NAME" in table.stderr
    (seen,) = [row for row in json.loads(run("--json").stdout) if row["name"] == "half_precision"]
    assert seen["seen"]["fp16"] == "NaN" and seen["reproduced"] is True and seen["seconds"] > 0
    alone = run("nan_is_healthy").stdout
    assert alone.startswith("NaN passes every threshold") and "trustworthy" in alone
    assert "fa-track pitfalls check train.py" in run("check", "--help").stdout
