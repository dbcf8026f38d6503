"""Servables of other kinds than models: their tables, and whether what they are made of fits together. Pure data."""
