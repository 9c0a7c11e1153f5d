"""The pure heart of ARIMONITOR: recorded inputs in, effects out, no I/O. Start at `arimonitor_core.monitor`."""
