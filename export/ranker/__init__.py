"""The learned ranker: trained on positions in past sessions, measured, written as ONNX."""
