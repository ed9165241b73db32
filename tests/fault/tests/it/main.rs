//! Crashes and damage of a real node on a real file system.

mod corruption;
mod disk;
mod inside;
mod kill;
mod offline;
mod retention;
