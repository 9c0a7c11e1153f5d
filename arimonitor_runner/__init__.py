"""The shell around the core: sockets, files, the clock, RabbitMQ. `wiring` puts its parts together."""
