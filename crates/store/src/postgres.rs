//! The private Postgres of an installation (written beside).
