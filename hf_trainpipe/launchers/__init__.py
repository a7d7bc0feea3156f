"""Ranks on the workers of a cluster that others keep: Spark, Dask, Ray. ``hf-trainpipe launch --on NAME`` starts them."""
