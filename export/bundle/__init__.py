"""The steps from a model, a catalog and past sessions to a published bundle."""
