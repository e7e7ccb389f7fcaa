//! The API as clients meet it: a real router over a real Postgres.

mod agent_versions;
mod agents;
mod analytics;
mod app;
mod costs;
mod edges;
mod environments;
mod files;
mod history;
mod idempotency;
mod keys;
mod previews;
mod projects;
mod rates;
mod runs;
mod secrets;
mod sign_in;
mod skills;
mod system;
mod tenants;
mod threads;
mod triggers;
mod users;
mod webhooks;
