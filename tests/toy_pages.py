"""A report's page taken apart: its elements with their attributes, and its text."""

from html.parser import HTMLParser

from bertkit.workflows.report.page import write_report


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text outside of scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words, self.inside, self.open = [], [], None, []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(*paths, **options):
    summary = write_report(paths, **options)
    return Page(summary.path.read_text(encoding="utf-8"))
