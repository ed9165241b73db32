//! A whole node through its public interfaces: the library and the port.

mod agreement;
mod bad_input;
mod cluster;
mod directory;
mod evolve;
mod identical;
mod load;
mod museum;
mod port;
mod readers;
mod retries;
mod s3_server;
mod server;
mod shared;
mod strangers;
mod support;
mod unsupported;
