import pytest
from colour_tasks import COLOURS, sample, write_task


@pytest.fixture
def colours(tmp_path):
    """21 pictures, three of each colour in two tars; the last two of 'grey' show red."""
    names = list(COLOURS)
    shards: list[list[tuple[str, bytes]]] = [[], []]
    for index in range(21):
        label = names[index // 3]
        shown = "red" if index >= 19 else label
        shards[index // 10 > 0] += sample(
            f"p{index:02}", shown, label=label, caption=f"all {label}"
        )
    return write_task(tmp_path / "tasks" / "colours", shards)
