"""Our ranker and published baselines."""
