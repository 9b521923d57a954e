"""How a command ends that Ctrl-C stops."""

STOPPED = 130
"""Its exit code, as a shell has it: 128 and the number of the signal."""
