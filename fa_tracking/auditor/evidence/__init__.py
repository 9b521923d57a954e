"""What an audit can rest on: a checkpoint, a model that MLflow logged, the numbers that a run logged."""
