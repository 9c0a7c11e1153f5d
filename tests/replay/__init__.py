"""The core on real captures, and on what could have happened to them."""
