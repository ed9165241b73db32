//! Nodes of one process that speak over loopback, as nodes of a cluster do.

mod bad_neighbours;
mod cluster;
mod snapshots;
mod strangers;
mod support;
