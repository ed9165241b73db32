//! A whole node through its public interfaces: the library and the port.

mod bad_input;
mod museum;
mod server;
mod support;
