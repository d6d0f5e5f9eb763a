"""The tabs of the page, a file each. `add` makes the components of a tab in the Blocks that are being built."""
