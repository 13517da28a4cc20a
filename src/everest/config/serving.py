"""What `everest ui` does if nobody says otherwise."""

UI_HOST, UI_PORT, UI_MEGABYTES = "127.0.0.1", 7860, 200
