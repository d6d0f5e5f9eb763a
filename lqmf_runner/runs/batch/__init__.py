"""mode=batch: every line of a file is answered. Answers have keys, so a later run continues where one stopped."""
