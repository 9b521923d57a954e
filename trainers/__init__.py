"""Training scripts: one file a learning rule, one file an architecture, one loop for all of them."""
