"""A seeded shop: its catalog, its shoppers, and their records."""
