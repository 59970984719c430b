"""The encoder: exported, fused, quantised, measured."""
