"""The records of every topic, declared once: parsing, writing and JSON Schemas follow from them."""
