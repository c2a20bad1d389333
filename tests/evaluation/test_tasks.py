import pytest
from colour_tasks import COLOURS, picture, sample, write_tar, write_task

from winnow.evaluation.tasks import MissingTaskError, Task
from winnow.types import InputError


def test_a_task_holds_what_its_files_say(colours):
    task = Task.open(colours)
    assert (task.name, task.num_samples, task.has_captions) == ("colours", 21, True)
    assert task.classnames == tuple(COLOURS)
    assert task.templates == ("a picture of {c}.", "{c}")
    assert task.chance == 1 / 7
    samples = list(task.samples())
    assert [s.key for s in samples] == [f"p{i:02}" for i in range(21)]
    assert [s.label for s in samples] == [i // 3 for i in range(21)]
    assert samples[4].image == picture("green")
    assert samples[4].captions == ("all green",)


def test_a_text_file_holds_one_caption_a_line(tmp_path):
    caption = "a dog\n\n two dogs \r\n"
    folder = write_task(tmp_path, [sample("a", "red", caption=caption)])
    assert next(Task.open(folder).samples()).captions == ("a dog", "two dogs")


def test_a_task_for_retrieval_needs_no_classes(tmp_path):
    members = [("a.jpg", picture("red", suffix="jpg")), ("a.txt", b"red")]
    task = Task.open(write_task(tmp_path, [members], classes=()))
    assert (task.classnames, task.has_captions) == ((), True)


def test_the_fingerprint_is_of_the_content_not_of_the_tars(tmp_path):
    samples = [sample("a", "red"), sample("b", "blue")]
    one = Task.open(write_task(tmp_path / "one", [samples[0] + samples[1]])).fingerprint
    two = Task.open(write_task(tmp_path / "two", samples)).fingerprint
    assert one == two


@pytest.mark.parametrize("what", ["picture", "label", "caption", "key", "class", "template"])
def test_the_fingerprint_changes_with(tmp_path, what):
    members = sample("a", "red", caption="red") + sample("b", "blue", caption="blue")
    before = Task.open(write_task(tmp_path / "before", [members])).fingerprint
    folder = tmp_path / "after"
    changed = {
        "picture": sample("a", "green", label="red", caption="red"),
        "label": sample("a", "red", label="green", caption="red"),
        "caption": sample("a", "red", caption="reddish"),
        "key": sample("c", "red", caption="red"),
    }
    write_task(folder, [changed.get(what, members[:3]) + members[3:]])
    if what == "class":
        names = (folder / "classnames.txt").read_text()
        (folder / "classnames.txt").write_text(names.replace("cyan", "teal"))
    if what == "template":
        (folder / "zeroshot_classification_templates.txt").write_text("{c}!\n")
    assert Task.open(folder).fingerprint != before


def test_a_missing_task_says_how_to_get_one(tmp_path):
    with pytest.raises(MissingTaskError, match=r"nshards.txt is missing.*winnow demo.*wds_"):
        Task.open(tmp_path / "nowhere")


def test_a_label_outside_the_classes_names_tar_and_key(tmp_path):
    members = [*sample("a", "red"), ("b.png", picture("red")), ("b.cls", b"7")]
    with pytest.raises(InputError, match=r"0\.tar, sample b has label '7'.*7 classes"):
        Task.open(write_task(tmp_path, [members]))


@pytest.mark.parametrize("label", [b"-1", b"1.0", b"red", b"", b"\xff"])
def test_a_label_that_is_no_class_number_is_refused(tmp_path, label):
    members = [("a.png", picture("red")), ("a.cls", label)]
    with pytest.raises(InputError, match="sample a has label"):
        Task.open(write_task(tmp_path, [members]))


def test_labels_without_class_names_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"sample a has a label .* classnames\.txt is missing"):
        Task.open(write_task(tmp_path, [sample("a", "red")], classes=()))


def test_a_template_without_the_placeholder_is_refused(tmp_path):
    folder = write_task(tmp_path, [sample("a", "red")])
    (folder / "zeroshot_classification_templates.txt").write_text("{c}\na photo\n")
    with pytest.raises(InputError, match=r"templates\.txt line 2 has no \{c\}"):
        Task.open(folder)


BROKEN = {
    "has no picture": [("a.cls", b"0")],
    "has no label": [("a.png", picture("red"))],
    "occurs twice": sample("a", "red") + sample("b", "red") + sample("a", "red"),
    "not UTF-8": [*sample("a", "red"), ("a.txt", b"\xff\xfe")],
    "only 1 of 2 pictures have a caption": sample("a", "red") + sample("b", "red", caption="b"),
    "holds no picture": [],
}


@pytest.mark.parametrize("problem", BROKEN)
def test_a_task_that_is_not_whole_is_refused(tmp_path, problem):
    with pytest.raises(InputError, match=problem):
        Task.open(write_task(tmp_path, [BROKEN[problem]]))


@pytest.mark.parametrize("cut", [100, 3000, 3 * 512, 6 * 512])
def test_a_truncated_tar_is_refused_wherever_it_is_cut(colours, cut):
    tar = colours / "test" / "1.tar"
    tar.write_bytes(tar.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"1\.tar is not a whole"):
        Task.open(colours)


def test_a_missing_tar_is_refused(colours):
    (colours / "test" / "1.tar").unlink()
    with pytest.raises(InputError, match=r"1\.tar is missing"):
        Task.open(colours)


def test_a_member_name_never_reaches_the_disk(tmp_path):
    folder = write_task(tmp_path / "task", [sample("a", "red")])
    write_tar(folder / "test" / "0.tar", sample("../../escaped", "red"))
    assert next(Task.open(folder).samples()).key == "../../escaped"
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize("file", ["classnames.txt", "test/nshards.txt"])
def test_a_list_that_is_not_utf8_is_named(colours, file):
    (colours / file).write_bytes(b"\xff\xfe1")
    with pytest.raises(InputError, match=f"{file} is not UTF-8"):
        Task.open(colours)
