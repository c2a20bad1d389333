"""Is this run healthy? One plain sentence when something goes wrong, one when it is over.

What is wrong is decided by the rows of metrics alone, so a resumed run that is given the rows of
before knows what was said; thresholds and sources are in docs/methods/training_health.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from winnow.training.health_history import WINDOW, History
from winnow.training.health_rules import RULES, HealthConfig, RuleName

HEALTH_FILE = "health.jsonl"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule that begins or ceases to speak."""

    rule: RuleName
    step: int
    sentence: str
    """For people: what, with numbers, and what to do."""
    begins: bool
    """False where it is over."""

    def row(self) -> dict[str, str]:
        """Of health.jsonl, beside the step."""
        event = "began" if self.begins else "ended"
        return {"rule": self.rule, "event": event, "sentence": self.sentence}


class Health:
    """Watches the rows of one run."""

    def __init__(
        self,
        config: HealthConfig,
        *,
        batch_size: int,
        seen: Iterable[Mapping[str, float]] = (),
    ) -> None:
        """`batch_size` is of all ranks together; `seen` are the rows before a resumed run's step.

        What these rows led to was said when they were new.
        """
        self._config = config
        self._history = History(batch_size)
        self._speaking: dict[RuleName, int] = {}
        """Since which step."""
        self._quiet: dict[RuleName, int] = {}
        """For how many rows."""
        for row in seen:
            self.see(row)

    def see(self, row: Mapping[str, float]) -> list[Finding]:
        """What begins or ends with this row, which has its `step` and comes after all before.

        What began is over after as many quiet rows as a median is taken over.
        """
        self._history.add(row)
        found = [self._judge(name) for name in RULES]
        return [finding for finding in found if finding is not None]

    def stops(self, findings: Iterable[Finding]) -> Finding | None:
        """The first of `findings` that shall stop the run."""
        wanted = self._config.stop_on
        return next((one for one in findings if one.begins and one.rule in wanted), None)

    def _judge(self, name: RuleName) -> Finding | None:
        sentence, step = RULES[name].says(self._history, self._config), self._history.step
        if sentence is not None:
            self._quiet[name] = 0
            if name in self._speaking:
                return None
            self._speaking[name] = step
            return Finding(rule=name, step=step, sentence=f"step {step:,}: {sentence}", begins=True)
        if name not in self._speaking:
            return None
        self._quiet[name] += 1
        if self._quiet[name] < WINDOW:
            return None
        lasted = step - self._speaking.pop(name)
        words = f"step {step:,}: {RULES[name].over}, {lasted:,} steps after the warning"
        return Finding(rule=name, step=step, sentence=words, begins=False)
