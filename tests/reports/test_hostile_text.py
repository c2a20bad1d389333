"""Words that others wrote: the unseen is written out, a megabyte is cut, all of it is text."""

import pytest
from hostile import HOSTILE
from markupsafe import Markup

from winnow.reports.hostile import LONGEST, escaped, shown, visible


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a cat", "a cat"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\u202egnp.exe", "⟨U+202E⟩gnp.exe"),
        ("\u2066a\u2069\u200f\u061c", "⟨U+2066⟩a⟨U+2069⟩⟨U+200F⟩⟨U+061C⟩"),
        ("a\x00b\x1b[31mc\x7f\x9b", "a⟨U+0000⟩b⟨U+001B⟩[31mc⟨U+007F⟩⟨U+009B⟩"),
        ("half \ud83d of a pair", "half ⟨U+D83D⟩ of a pair"),
        ("run\udcff", "run⟨U+DCFF⟩"),  # a byte of a file name that is no UTF-8
        ("\ufefft\u200bail\u2028", "⟨U+FEFF⟩t⟨U+200B⟩ail⟨U+2028⟩"),
        ("hid\U000e0064den", "hid⟨U+E0064⟩den"),
        # A family, Persian, Scotland and Hebrew need what they have.
        *[
            (words, words)
            for words in (
                "\U0001f468\u200d\U0001f467",
                "\u0645\u06cc\u200c\u0631\u0648\u062f",
                "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
                "\u05e9\u05dc\u05d5\u05dd",
            )
        ],
    ],
)
def test_what_nobody_sees_is_written_out(words, expected):
    assert visible(words) == expected
    assert visible(visible(words)) == expected
    assert visible(words).encode()


def test_a_megabyte_is_cut_and_counted():
    assert visible("x" * 1_000_000, longest=5) == "xxxxx… (+999,995 characters)"
    assert visible("x" * (LONGEST + 1)) == "x" * LONGEST + "… (+1 character)"
    assert visible("x" * LONGEST) == "x" * LONGEST
    assert visible("\x00" * 10, longest=1) == "⟨U+0000⟩… (+9 characters)"


def test_words_are_text_in_markup_and_in_attributes():
    assert escaped(HOSTILE) == (
        "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&gt;&lt;img src=x onerror=alert(2)&gt;"
        "{{ 7 * 7 }}"
    )


def test_templates_put_out_numbers_markup_and_pictures_as_they_are():
    picture = "data:image/webp;base64," + "A" * 9_999 + "="
    assert shown(picture) == picture
    assert shown(picture + "\n") != picture + "\n"
    assert shown("data:image/svg+xml;base64,\u202e") == "data:image/svg+xml;base64,⟨U+202E⟩"
    markup = Markup("<b>\u202e</b>") * LONGEST
    assert shown(markup) is markup
    assert (shown(7), shown(None)) == (7, None)
