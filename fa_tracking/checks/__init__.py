"""Reads finished verdicts and logged numbers and decides: the gate, JUnit, the replay. Nothing here measures."""
