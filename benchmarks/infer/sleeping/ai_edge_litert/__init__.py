"""A runtime in the place of LiteRT whose device sleeps: for measuring what is around a device."""
