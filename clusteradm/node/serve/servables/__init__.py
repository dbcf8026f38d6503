"""Servables of other kinds than models: in processes of their own, on the CPU, whatever ends in them."""
