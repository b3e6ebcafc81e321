"""What the model may call and this service executes."""
