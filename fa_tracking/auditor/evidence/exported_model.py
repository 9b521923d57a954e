"""A model that ``torch.export`` saved (``model.pt2``, MLflow's own default), loaded without running what it says.

``torch.export.load`` unpickles some records, evaluates the expressions of the graph's sizes as Python and resolves its
operators by name, so a crafted file can run code. MLflow looks for pickles; the expressions and operators are held here
against what an exported classifier needs.
"""

import json
import logging
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import CheckpointError, FATrackError
from fa_tracking.tracking._mlflow_compat import refuse_pickles

if TYPE_CHECKING:
    from torch import nn

TRUST = "where you trust whoever logged it, give --trust-pickles"

_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!__|from_file)\w+\.(?!__)\w+|torch\.sym_\w+|math\.[a-z]\w*"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_)"
)
_EXPRESSION = re.compile(r"[\w\s'(),.=<>+*/-]*")
_WORD = re.compile(
    r"[a-z]{1,2}\d+|Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Mod|Where|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|True|False"
    r"|[A-Z]\w*(Div|Mod|Indexing|Natural|Than)|Equality|Unequality|positive|negative|nonnegative|integer|real"
)


def load(path: Path, trusted: bool) -> "nn.Module":
    """The exported model with its modules under their own names, computing what the exported graph computes.

    Raises:
        FATrackError: it could run code and is not ``trusted``; or it was exported in training mode.
        CheckpointError: it is damaged.
    """
    import torch

    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path.name} is damaged: it is no archive of torch.export")
    _refuse_bomb(path)
    if not trusted:
        _refuse_code(path)
    with _quiet("torch.export"):
        program = torch.export.load(path)
    if fixed := sorted({str(node.target) for node in program.graph.nodes if _as_in_training(node)}):
        raise FATrackError(
            f"the model was exported in training mode, which its {', '.join(fixed)} cannot leave: "
            "call model.eval() before mlflow.pytorch.log_model"
        )
    return _with_types(torch.export.unflatten(program))


def _refuse_bomb(path: Path) -> None:
    """torch stores its records as they are: what would unpack to more than the file is made to exhaust memory."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(record.file_size for record in archive.infolist())
    if unpacked > path.stat().st_size:
        raise CheckpointError(f"{path.name} is damaged: its records unpack to {unpacked} bytes, more than it has")


def _refuse_code(path: Path) -> None:
    """Raise unless every record is tensors and every operator and expression of the graph is a plain one."""
    from mlflow.exceptions import MlflowException

    try:
        refuse_pickles(path)
    except (ImportError, MlflowException) as error:
        reason = str(error).partition(". ")[0]
        raise FATrackError(f"{path.name} may hold pickles, which run code when loaded ({reason}): {TRUST}") from error
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            try:
                content = json.loads(archive.read(record))
            except ValueError:
                continue  # tensors, or MLflow would have refused it
            for key, value in _leaves(content):
                if not _is_plain(key, value):
                    raise FATrackError(f"{path.name} holds the {key} {value!r:.80}, which could run code: {TRUST}")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    else:
        yield key, value


def _is_plain(key: str, value: Any) -> bool:
    if key == "target":
        return bool(_OPERATOR.fullmatch(str(value)))
    if key == "expr_str":
        words = re.findall(r"[^\W\d]\w*", str(value))
        return bool(_EXPRESSION.fullmatch(str(value))) and all(map(_WORD.fullmatch, words))
    return True


def _as_in_training(node: Any) -> bool:
    """Whether an operator of the graph drops out, or uses the batch's own statistics."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    given = {a.name: a.default_value for a in schema.arguments}
    given |= dict(zip(given, node.args, strict=False)) | dict(node.kwargs)
    return bool(given.get("dropout_p") or ((given.get("train") or given.get("training")) and given.get("p") != 0))


def _with_types(model: "nn.Module") -> "nn.Module":
    """Lists and sequences of modules as such again, and modules of one class of one class, which is how states are
    found: ``torch.export.unflatten`` makes one and the same class of all.
    """
    from torch import nn

    classes: dict[str, type] = {}
    for name, module in [*model.named_modules()]:
        if not hasattr(module, "type_name"):
            continue  # it holds parameters alone
        parts, kind = dict(module.named_children()), str(module.type_name())
        if name and parts and all(child.isdigit() for child in parts) and not list(module.graph.nodes):
            model.set_submodule(name, nn.ModuleList(parts.values()))
        elif name and kind == "torch.nn.modules.container.Sequential" and _is_chain(module):
            model.set_submodule(name, nn.Sequential(OrderedDict(parts)))
        else:
            short = kind.rpartition(".")[2]
            module.__class__ = classes.setdefault(kind, type(short, (type(module),), {}))
    return model


def _is_chain(module: Any) -> bool:
    """Whether a module hands one value from child to child; an exported one may also hand on sizes."""
    nodes = list(module.graph.nodes)
    is_single = all(len(n.args) == 1 and not n.kwargs for n in nodes if n.op == "call_module")
    return is_single and [n.op for n in nodes].count("placeholder") == 1


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """torch logs a traceback beside the error that it raises."""
    log = logging.getLogger(logger)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
