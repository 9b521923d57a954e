"""Which split of the data a value in the code is of, and whether it is a score or an error."""

import ast
import re
from typing import TYPE_CHECKING

from fa_tracking.pitfalls._names import dotted, split

if TYPE_CHECKING:
    from fa_tracking.pitfalls._source import Source

TEST = {"test", "te", "tst", "testing"}
TOGETHER = re.compile(
    r"test(set|loader|data|dataset|dataloader|ds|dl|iter|split|acc|accs|err|error|loss|score|accuracy)s?"
)
"""Words that are written as one: testloader, not testy."""
OTHER_SPLIT = {"val", "valid", "validation", "dev", "train", "tr", "training"}
SCORE = {
    *("acc", "accs", "accuracy", "accuracies", "score", "scores", "auc", "top", "correct", "perf", "f", "bleu"),
    *("performance", "precision", "recall", "result", "results", "metric"),
}
ERROR = {"err", "errs", "error", "errors", "loss", "losses", "perplexity", "ppl", "mse", "rmse", "mae"}
CROSS = {"cv", "fold", "folds", "cross", "grid"}
STEPS = 4


def is_on_test(source: "Source", node: ast.expr, words: set[str]) -> bool:
    """Whether a value is of the test split: by its own name, else by the nearest origin that names a split."""
    own = source.words(ast.walk(node)) - {"best"}
    if contradicts(own, words) or is_cross_validated(source, node):
        return False
    if split_of(own):
        return split_of(own) == "test"
    if found := split_of(nearest_split(source, node)):
        return found == "test"
    function = source.function(node)
    return bool(function and split_of(split(function.name)) == "test" and "epoch" in split(ast.unparse(function.args)))


def nearest_split(source: "Source", node: ast.expr) -> set[str]:
    """The words of the nearest origins of a value that name a split."""
    seen: set[str] = set()
    level = [node]
    for _ in range(STEPS):
        level = [v for each in level for part in ast.walk(each) for v in _given_once(source, part, seen)]
        named = {word for v in level for word in source.words(ast.walk(v)) | _keywords(v)}
        if split_of(named):
            return named
    return set()


def is_cross_validated(source: "Source", node: ast.expr) -> bool:
    """Whether the "test" is a fold that is held back of the training split, as scikit-learn calls it."""
    parts = list(source.origins(node, steps=2))
    texts = {part.value for part in parts if isinstance(part, ast.Constant)} | {dotted(part) for part in parts}
    return bool(CROSS & source.words(parts)) or "mean_test_score" in texts


def contradicts(own: set[str], words: set[str]) -> bool:
    """Higher is no better of an error."""
    other = ERROR if words is SCORE else SCORE
    return bool(other & own) and not words & own


def _given_once(source: "Source", node: ast.AST, seen: set[str]) -> list[ast.expr]:
    name = dotted(node)
    if not name or name in seen:
        return []
    seen.add(name)
    return list(source.given(node))


def _keywords(node: ast.AST) -> set[str]:
    """The names of keyword arguments: ``test(test_loader=x)``."""
    return {word for part in ast.walk(node) if isinstance(part, ast.keyword) for word in split(part.arg or "")}


def split_of(words: set[str]) -> str:
    """The split that words speak of; validation and training speak against the test split, to validate does not."""
    words = words - {"validate"}
    if {word for word in words if word in OTHER_SPLIT or word.startswith(("valid", "train"))}:
        return "other"
    return "test" if TEST & words or any(TOGETHER.fullmatch(word) for word in words) else ""
