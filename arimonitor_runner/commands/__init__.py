"""The commands of the toolbox, one module each."""
