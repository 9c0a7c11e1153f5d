"""The daemon against a real Asterisk and a real RabbitMQ. Needs root; a missing Asterisk is a failure, not a skip."""
