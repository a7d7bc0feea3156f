"""A package's files, before anything of them is read: names, hashes, weights, trainpipe.json."""
