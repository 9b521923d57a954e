"""From the MLflow store to the results database, from there to Parquet, and several databases into one."""
