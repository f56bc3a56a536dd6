"""What TensorRT refuses, spoils or wastes: one file per family of rules."""
