"""Our job under load: `python -m bench pipeline --latency`, `soak`, `scale` and `profile`."""
