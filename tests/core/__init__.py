"""The core by itself, module by module."""
