//! The program from outside, as people and scripts run it: arguments, files and pipes in, text and an exit
//! code out, on a directory of its own or through a server.

mod cluster;
mod commands;
mod conditions;
mod crowd;
mod deadlines;
mod embedded;
mod failures;
mod faults;
mod formats;
mod rolling;
mod rows;
mod serve;
mod settings;
mod shared;
mod sql;
mod support;
mod types;
