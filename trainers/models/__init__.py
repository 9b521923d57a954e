"""One file an architecture. A file offers ``Model``, whose contract stands in ``trainers.model``."""
