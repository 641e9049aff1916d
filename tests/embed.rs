//! Integration tests: embed.
