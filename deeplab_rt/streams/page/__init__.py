"""A page that shows a stream in the browser: files, server, and the messages between them.

The browser composes: it gets each frame as a JPEG with its label map and confidence, and lays them
over each other as the person wishes. Here is what serves it; the page itself is in ``static/``.
"""

from deeplab_rt.streams.page.access import PORT, Access
from deeplab_rt.streams.page.server import Limits
from deeplab_rt.streams.page.view import PageView

__all__ = ["PORT", "Access", "Limits", "PageView"]
