"""One file a data set. A file offers ``read``, whose contract stands in ``fa_tracking.trainers.data``."""
