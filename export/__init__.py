"""A model's life before it runs: to ONNX, optimised, quantised, verified, published as a bundle."""
