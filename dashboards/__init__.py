"""Charts and pages drawn from answers of the query catalogue."""
