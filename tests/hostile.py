"""Words that would run if they were put into a page, or into a template, as they are."""

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
