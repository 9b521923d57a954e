"""From answers to what is published: tables, documents with markers, claims, the report of a run."""
