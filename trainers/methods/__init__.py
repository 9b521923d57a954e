"""One file a learning rule. A file offers ``Method``, whose contract stands in ``fa_tracking.trainers.method``."""
