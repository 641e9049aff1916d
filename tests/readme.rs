//! Integration tests: readme.
