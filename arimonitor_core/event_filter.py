"""Per event type, and per ChannelVarset variable: drop (N), process (Y), print and process (P), print and drop (NP)."""

from __future__ import annotations

from attrs import Factory, define

from arimonitor_core.inputs import FilterMode

PROCESS: FilterMode = "Y"


@define(eq=False)
class EventFilter:
    """What an operator wants of each kind of event; what is not named is processed."""

    types: dict[str, FilterMode] = Factory(dict)
    variables: dict[str, FilterMode] = Factory(dict)

    @property
    def is_open(self) -> bool:
        """Is everything simply processed?"""
        return not self.types and not self.variables

    def change(self, types: dict[str, FilterMode], variables: dict[str, FilterMode]) -> None:
        """Change the modes named; the others stay."""
        for modes, changed in ((self.types, types), (self.variables, variables)):
            modes.update(changed)
            for name in [name for name, mode in modes.items() if mode == PROCESS]:
                del modes[name]

    def mode(self, event_type: str, variable: str) -> FilterMode:
        """What becomes of an event; a variable's own mode is stronger than that of ChannelVarset."""
        if variable and variable in self.variables:
            return self.variables[variable]
        return self.types.get(event_type, PROCESS)
