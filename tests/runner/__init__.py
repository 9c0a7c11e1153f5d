"""Tests of the runner: real sockets, real files, a real RabbitMQ."""
