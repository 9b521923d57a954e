"""The protocol: thresholds, report, verdict, and the numbers from captured tensors. No store, no files."""

VERSION = "1.0"
"""Changes whenever the same run could get another verdict; stands on every audited run as ``fa.protocol_version``."""
