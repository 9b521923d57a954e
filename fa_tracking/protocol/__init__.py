"""The protocol: thresholds, report, verdict, and the numbers from captured tensors. No store, no files."""

PROTOCOL = "1"
"""The protocol's number: which diagnostics count, their thresholds and their wording."""
VERSION = "1.1"
"""The measurement revision: changes whenever the same run could get another number or verdict under the same protocol.
It stands on every audited run as ``fa.protocol_version``, and a report says which one measured it."""
