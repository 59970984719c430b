"""The bundles folder: bundles, catalog changes between them, and erased users."""
