"""What was tried and what came of it."""

from dataclasses import dataclass, field


@dataclass
class Row:
    """One kind of fault: points tried, how many ended well, how many ended in a wrong result that nobody was told of."""

    name: str
    tried: int = 0
    survived: int = 0
    silent: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, verdict: str, where: str) -> None:
        self.tried += 1
        self.survived += verdict == "ok"
        self.silent += "wrong" in verdict.split(":")[0]
        if verdict != "ok":
            self.failures.append(f"{self.name}: {where}: {verdict}")

    def line(self) -> str:
        return f"{self.name:<34} {self.tried:>7,} {self.survived:>9,} {self.silent:>13,}"


HEAD = f"{'fault':<34} {'tried':>7} {'survived':>9} {'silent wrongs':>13}"
