"""A study: its grid, which of its runs are missing, who trains which."""
