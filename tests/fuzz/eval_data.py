"""Evaluation data: .npz, with pickles and bombs among them, and .safetensors."""

import io
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from fa_tracking.auditor.evidence import eval_data

from ._values import as_json, changed, edited

TITLE = "evaluation data: .npz, .safetensors"
WEIGHT = 14


@cache
def npz() -> bytes:
    """A valid file."""
    made = io.BytesIO()
    np.savez(made, inputs=np.zeros((20, 2), np.float32), labels=np.zeros(20, np.int64))
    return made.getvalue()


@cache
def pickled() -> bytes:
    """One whose labels are objects, which NumPy pickles."""
    made = io.BytesIO()
    np.savez(made, inputs=np.zeros((4, 2)), labels=np.array([print, print, print, print], dtype=object))
    return made.getvalue()


def claiming(shape: tuple[int, ...], kind: str, compress: bool, content: bytes) -> bytes:
    """A file that says that it holds an array of any size."""
    made = io.BytesIO()
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    header = b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text.encode()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name in (eval_data.INPUTS, eval_data.LABELS):
            archive.writestr(f"{name}.npy", header + content)
    return made.getvalue()


def tensors(header: object) -> bytes:
    text = as_json(header)
    return len(text).to_bytes(8, "little") + text + bytes(160)


def inputs() -> st.SearchStrategy[tuple[str, bytes]]:
    sizes = st.sampled_from([0, 1, 4, 10**6, 10**12, 2**62, 2**63, -1])
    kinds = st.sampled_from(["<f4", "<i8", "|O", "|V8", "<U1000000", "<M8[s]", "<c16", "|b1", "x", "<f2"])
    content = st.binary(max_size=64) | st.just(bytes(1_000_000))
    claims = st.builds(claiming, st.lists(sizes, max_size=4).map(tuple), kinds, st.booleans(), content)
    header = {
        "inputs": {"dtype": "F32", "shape": [10, 2], "data_offsets": [0, 80]},
        "labels": {"dtype": "I64", "shape": [10], "data_offsets": [80, 160]},
    }
    dtypes = st.sampled_from(["F32", "F16", "BF16", "F8_E4M3", "I64", "U8", "U64", "BOOL", "I32", "X", "C64"])
    archives = edited(npz()) | edited(pickled()) | st.just(pickled()) | claims
    return st.tuples(st.just("x.npz"), archives) | st.tuples(
        st.just("x.safetensors"),
        changed(header).map(tensors)
        | changed(header, dtypes).map(tensors)
        | edited(tensors(header))
        | st.binary(max_size=50),
    )


def feed(value: tuple[str, bytes], folder: Path) -> None:
    name, content = value
    (folder / name).write_bytes(content)
    eval_data.batches(*eval_data.read(folder / name))
