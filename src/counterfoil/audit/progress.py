"""How far an audit or an apply has come, for whoever shows it."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Stage:
    """One bar: ``total`` ``None`` where it is not known yet."""

    name: str
    done: int = 0
    total: int | None = None
    ended: bool = False


@dataclass(slots=True)
class Progress:
    """The bars, in their order. Read by a screen a few times a second; nobody is told of a change."""

    stages: dict[str, Stage] = field(default_factory=dict)

    def stage(self, name: str, total: int | None = None) -> Stage:
        """The bar of this name, made at its first use."""
        made = self.stages.setdefault(name, Stage(name))
        if total is not None:
            made.total = total
        return made
