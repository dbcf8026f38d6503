"""What a host does for the admin side's `fleet`: drains, and the reset of a TPU."""
