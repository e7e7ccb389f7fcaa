//! The whole system: what survives, what stops, what stays secret, what is left.

mod containers;
mod crash;
mod input;
mod lifecycle;
mod model;
mod network;
mod readers;
mod secrets;
mod stop;
