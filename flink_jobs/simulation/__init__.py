"""A seeded shop, its catalog and its shoppers."""
