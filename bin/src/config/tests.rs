//! Layers, problems, and the sample file.
