"""Logged models: MLmodel, torch.export's archives, data_source.json and the tags that name them."""

import io
import json
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

from fa_tracking.auditor.evidence import logged_model
from fa_tracking.tracking import names

from ._values import BOMB, PATHS, as_json, changed, edited, texts, values, yaml_text

TITLE = "logged models: MLmodel, model.pt2, model.pth, data_source.json"
WEIGHT = 2

MLMODEL = {
    "artifact_path": "model",
    "flavors": {"pytorch": {"model_data": "data", "pytorch_version": "2.8.0"}},
    "model_uuid": "0" * 32,
    "utc_time_created": "2026-01-01 00:00:00.000000",
}
SOURCE = {"name": "digits", "loader": "trainers", "test_sha256": "0" * 64, "mean": [0.0], "std": [1.0]}
PICKLE = b"cposix\nsystem\n(S'touch pwned'\ntR."


@cache
def exported() -> bytes:
    """A small model as torch.export saves it."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        program = torch.export.export(torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),))
        torch.export.save(program, Path(folder) / "m.pt2")
        return (Path(folder) / "m.pt2").read_bytes()


def record_changed(pick: int, content: bytes, compress: bool) -> bytes:
    """The archive with one of its records replaced."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(exported())) as seed, zipfile.ZipFile(made, "w") as archive:
        records = seed.infolist()
        for number, record in enumerate(records):
            fresh = content if number == pick % len(records) else seed.read(record)
            archive.writestr(record.filename, fresh, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
    return made.getvalue()


@cache
def graphs() -> list[tuple[int, Any]]:
    """The records of the archive that are JSON objects, by number."""
    with zipfile.ZipFile(io.BytesIO(exported())) as archive:
        found = [(i, archive.read(r)) for i, r in enumerate(archive.infolist()) if r.filename.endswith(".json")]
    parsed = [(i, json.loads(content)) for i, content in found]
    return [(i, value) for i, value in parsed if isinstance(value, dict)]


def inputs() -> st.SearchStrategy[Any]:
    contents = st.binary(max_size=40) | values.map(as_json) | st.sampled_from([PICKLE, b"0" * 100_000, b"[" * 5000])
    graph = st.sampled_from(graphs()).flatmap(
        lambda found: st.tuples(st.just(found[0]), changed(found[1]).map(as_json), st.just(False))
    )
    archives = st.tuples(st.integers(0, 50), contents, st.booleans()) | graph
    described = changed(MLMODEL).map(yaml_text) | edited(yaml_text(MLMODEL)) | st.just(BOMB)
    described |= st.sampled_from([*PATHS, "x"]).map(
        lambda at: yaml_text(MLMODEL | {"flavors": {"pytorch": {"model_data": at}}})
    )
    weights = archives.map(lambda given: record_changed(*given)) | edited(exported()) | st.just(PICKLE)
    sources = changed(SOURCE).map(as_json) | edited(as_json(SOURCE))
    history = (
        values.map(json.dumps)
        | texts
        | st.sampled_from(PATHS).map(lambda at: json.dumps([{"artifact_path": at, "flavors": {"pytorch": {}}}]))
    )
    one = st.sampled_from([logged_model.EXPORTED, logged_model.PICKLED])
    return (
        st.tuples(st.just("model"), described, st.tuples(one, weights))
        | st.tuples(st.just("source"), sources, st.none())
        | st.tuples(st.just("history"), history, st.none())
    )


def feed(value: Any, folder: Path) -> None:
    kind, content, weights = value
    if kind == "model":
        (folder / "MLmodel").write_bytes(content)
        (folder / "data").mkdir()
        (folder / "data" / weights[0]).write_bytes(weights[1])
        logged_model.read_model(logged_model.read(folder, "m", 1), trusted=False)
        return
    info = SimpleNamespace(run_id="0" * 32, artifact_uri=str(folder))
    tags = {logged_model.HISTORY: content} if kind == "history" else {}
    run: Any = SimpleNamespace(info=info, outputs=None, data=SimpleNamespace(tags=tags))
    if kind == "history":
        for _, where, _ in logged_model._candidates(None, run):  # type: ignore[arg-type]
            assert Path(where).resolve().is_relative_to(folder.resolve()), where
        return
    (folder / names.DATA_SOURCE).write_bytes(content)
    listed = SimpleNamespace(
        tracking_uri="sqlite://", list_artifacts=lambda *_: [SimpleNamespace(path=names.DATA_SOURCE)]
    )
    logged_model.data_source(listed, run, folder)  # type: ignore[arg-type]
