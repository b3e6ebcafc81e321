"""Tools that the model may call and this service executes."""
