"""`bench/gpu/run.sh`: the encoder on an NVIDIA GPU, on a machine without a network; `make gpu-pack` packs for it."""
