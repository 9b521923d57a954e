"""Callbacks for training frameworks, one file a framework; each needs the extra of its name."""
