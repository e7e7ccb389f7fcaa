//! The whole system: what survives, what stops, what stays secret, what is left.

mod approvals;
mod backup;
mod containers;
mod crash;
mod exhaustion;
mod input;
mod kills;
mod lifecycle;
mod model;
mod network;
mod orphans;
mod outages;
mod previews;
mod readers;
mod reconnects;
mod secrets;
mod sign_in;
mod stealing;
mod stop;
mod stubborn;
mod takeover;
mod telemetry;
mod upgrade;
