"""What a run leaves: the schema of `results.json`, the files of its folder, past runs, and the machine it ran on."""
