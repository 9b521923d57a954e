"""Study files: YAML."""

from pathlib import Path

from hypothesis import strategies as st

from fa_tracking.trainers.study import grid

from ._values import BOMB, changed, edited, yaml_text

TITLE = "study files: YAML"
WEIGHT = 12

STUDY = {
    "title": "t",
    "experiment": "e",
    "seeds": [1, 2],
    "fixed": {"width": 8, "lr": 0.01},
    "grids": [{"parameters": {"method": {"values": ["bp", "dfa"]}, "penalty": {"values": [0, 0.01]}}}],
    "reduced": {"says": "s", "fixed": {"epochs": 1}, "seeds": [1]},
}
WORDS = [
    b"&a ",
    b"*a",
    b"!!python/object/apply:os.system [id]",
    b"? ",
    b"<<: *a",
    b"1:1:1:1",
    b"2001-99-99",
    b"0x",
    b"\t",
]


def inputs() -> st.SearchStrategy[bytes]:
    plain = b"title: t\nexperiment: &a e\nseeds: [1]\ngrids:\n- parameters:\n    method: {values: [*a, bp]}\n"
    wide = st.integers(1, 40).map(
        lambda n: yaml_text(
            STUDY | {"grids": [{"parameters": {f"p{i}": {"values": list(range(50))} for i in range(n)}}]}
        )
    )
    return changed(STUDY).map(yaml_text) | edited(plain, WORDS) | edited(BOMB, WORDS) | wide


def feed(value: bytes, folder: Path) -> None:
    (folder / "s.yaml").write_bytes(value)
    found = grid.load("s.yaml")
    for config in found.configs():
        grid.describe(config)
    if found.reduced:
        found.smaller().configs()
