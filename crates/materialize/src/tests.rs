//! Files made from a real log by a real state machine, checked against a model of the rows.

mod faults;
mod identity;
mod lake;
mod museum;
