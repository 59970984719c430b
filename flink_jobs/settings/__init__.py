"""Typed settings, one file per subject: `settings` has them all, `loading` reads them."""
