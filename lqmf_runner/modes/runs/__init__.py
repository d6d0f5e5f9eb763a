"""The modes whose results stay in a folder, and the one that lists them."""
