"""Which definition of a network or rule a name stands for, known without torch.

A network or rule that changes under its old name is another one: its runs share no cell, control or checkpoint with
the earlier ones.
"""

REVISED = {
    "credit_bridge": 2,
    "dfa": 2,
    "resmlp": 2,
    "small_cnn": 2,
    "state_bridge": 2,
    "student_net": 2,
}
"""Names that have changed since version 0.1, and the revision that changed them last (2: the published study's own)."""

FIRST = 1
"""The definitions of version 0.1, which wrote no number."""


def definition_of(name: str) -> int:
    """The definition of a network or rule that this version has."""
    return REVISED.get(name, FIRST)
