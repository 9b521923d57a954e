"""What runs have reported and their stores have not taken yet: written here first, delivered from here."""
