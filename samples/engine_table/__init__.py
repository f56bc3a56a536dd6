"""What TensorRT builds from real artefacts: one build per model, precision, placement and GPU."""
