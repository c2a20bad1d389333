"""A graph as text: a line per object, and under it what is attached to it."""

from winnow.curation.grammar.graph import Graph


def draw(graph: Graph) -> str:
    """Lines without a newline at the end; an arrow points at the object that decides complexity.

    bird (a): 3  <- complexity
      is small
      is brown
      <- chase cat
    """
    if graph.foreign:
        return f"not taken for English: {graph.foreign}"
    counts = [len(graph.attached(index)) for index in range(len(graph.objects))]
    lines = [] if counts else ["no objects"]
    for index, item in enumerate(graph.objects):
        quantity = f" ({item.quantity})" if item.quantity else ""
        arrow = "  <- complexity" if counts.index(max(counts)) == index else ""
        lines.append(f"{item.text}{quantity}: {counts[index]}{arrow}")
        lines += [f"  is {attribute}" for attribute in item.attributes]
        lines += [f"  {edge}" for edge in _edges(graph, index)]
    alone = [a.verb for a in graph.actions if a.subject is None and a.object is None]
    return "\n".join([*lines, *(f"{verb}, by and to nothing named" for verb in alone)])


def _edges(graph: Graph, index: int) -> list[str]:
    """What is attached to an object besides attributes, each with its partners."""
    edges = [(a.start, a.verb, a.subject, a.object) for a in graph.actions]
    edges += [(r.start, r.word, r.subject, r.object) for r in graph.relations]
    partners: dict[tuple[int, str], list[str]] = {}
    for start, word, subject, target in edges:
        for name, own, other in ((f"{word} ->", subject, target), (f"<- {word}", target, subject)):
            if own == index:
                named = partners.setdefault((start, name), [])
                named += [] if other is None else [graph.objects[other].text]
    return [" ".join([name, ", ".join(named)]).rstrip() for (_, name), named in partners.items()]
