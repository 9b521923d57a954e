"""One file a page of the reference; a file offers ``page()``, the page's Markdown."""
