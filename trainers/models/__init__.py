"""One file an architecture. A file offers ``Model``, whose contract stands in ``fa_tracking.trainers.model``."""
