"""The embedded demonstration: a recorded Asterisk is played over real sockets and the daemon follows its calls."""
