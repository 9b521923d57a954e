"""One file a data set. A file offers ``read``, whose contract stands in ``trainers.data``."""
