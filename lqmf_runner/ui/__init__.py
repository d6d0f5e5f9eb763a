"""The web page at /ui: a Gradio application over the server's own REST API.

Nothing here is imported before the first visit, and nothing without the extra `ui`.
"""
