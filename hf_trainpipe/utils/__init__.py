"""What every layer may use: tables and messages for people, the cache, resources."""
