//! The whole engine under one seed.
