//! The client against servers that fail in every way that the protocol knows.

mod corners;
mod scripted;
mod sessions;
mod whole;
