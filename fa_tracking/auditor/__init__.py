"""From a finished run to a verdict: load the checkpoint, match the control, diagnose, write tags and report."""
