//! Cutting: what the pieces hold together, and where errors point.
