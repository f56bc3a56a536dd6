"""What TensorRT-RTX itself does with each bad graph of the linter's corpus."""
