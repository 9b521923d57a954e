"""One file an MLflow entry point."""
