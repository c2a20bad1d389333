"""The semantic graph of a caption: objects, what is said of them, and how they hang together.

    complexity = max over objects of  attributes + actions + relations  attached to the object

A verb or a preposition counts once on an object, however many partners it has there: in "a dog and
a cat chase a bird" the bird is chased once, and "a table with cups and plates" is one "with" at the
table. Quantities, possessors and the parts of compound nouns are no relations. "A black cat is
chasing a small brown bird" has complexity 3: small, brown, chased. Radenovic et al. (DiHT), CVPR
2023, arXiv 2301.02280, section 3.1; what it leaves open is settled in docs/methods/cat.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Object:
    """A noun with its compound parts: "fire truck" is one object."""

    text: str
    """As written in the caption."""
    lemma: str
    attributes: tuple[str, ...] = ()
    """Lower-case words, in the order of the caption."""
    quantity: str | None = None
    """A numeral, "a", "many": how many there are."""
    start: int
    """Offset of `text` in the caption, in characters."""
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A content verb, who does it and to what: one record for each pair of partners."""

    verb: str
    """Lemma, with its particle: "pick up"."""
    subject: int | None = None
    """Index into the objects; None where the caption names no one."""
    object: int | None = None
    start: int
    """Offset of the verb in the caption; records of one verb share it."""
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Relation:
    """A preposition between two objects: one record for each pair of them."""

    word: str
    """As in the caption, in lower case: "in front of"."""
    subject: int
    object: int
    start: int
    """Offset of the preposition in the caption; records of one preposition share it."""
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """What a caption says."""

    caption: str
    objects: tuple[Object, ...] = ()
    actions: tuple[Action, ...] = ()
    relations: tuple[Relation, ...] = ()
    foreign: str | None = None
    """The script or language that the caption is in, where it is not English; no objects then."""

    @property
    def complexity(self) -> int:
        """Most relations attached to one object; 0 without objects."""
        return max((len(self.attached(index)) for index in range(len(self.objects))), default=0)

    def attached(self, index: int) -> tuple[str, ...]:
        """What is attached to one object: attributes, then actions, then relations."""
        done_by = {(a.start, f"{a.verb} >") for a in self.actions if a.subject == index}
        done_to = {(a.start, f"> {a.verb}") for a in self.actions if a.object == index}
        links = {(r.start, f"{r.word} >") for r in self.relations if r.subject == index}
        linked = {(r.start, f"> {r.word}") for r in self.relations if r.object == index}
        edges = [*sorted(done_by | done_to), *sorted(links | linked)]
        return (*self.objects[index].attributes, *(edge for _, edge in edges))
