"""Our job under load: latency, soak, scale, profile."""
