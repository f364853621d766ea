"""Ways to bring one scan onto another, each a function of a `Pair`'s two scans: theirs and ours."""
