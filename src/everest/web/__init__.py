"""The page of ``everest ui``: a person drops a video, moves sliders, and sees what the method makes of it."""

from everest.web.looking import Choice, VideoLook
from everest.web.models import Lookers, load_lookers
from everest.web.serving import serve

__all__ = ["Choice", "Lookers", "VideoLook", "load_lookers", "serve"]
