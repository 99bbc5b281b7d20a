"""One file per command; the files in `scripts/` call them."""
