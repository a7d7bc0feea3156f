"""Whether the texts that a package is asked are still like those it was tried on: a profile in the package, sequential tests."""
