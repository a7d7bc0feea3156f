"""Helpers for every layer: atomic writes, tables, messages, the cache, resources, errors of the Hub."""
