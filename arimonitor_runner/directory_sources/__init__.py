"""Where the directory comes from: text files in Asterisk's syntax, or a database."""
