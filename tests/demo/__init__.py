"""The demonstration, the documentation and the make targets."""
