//! Clusters of whole nodes in one process, held up where it hurts: museum bugs that need more than one node.

mod load;
mod machines;
mod museum;
