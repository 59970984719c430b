"""The records on every topic, declared once: parsing, writing and the JSON Schemas come from here."""
