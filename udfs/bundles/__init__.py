"""The bundles folder: bundles, changes of the catalog between them, erased users."""
