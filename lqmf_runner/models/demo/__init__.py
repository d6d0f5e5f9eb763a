"""The demo models: one model in five formats, made from the one that a package brings."""
