//! The way to the container engine.

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error};

const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// How long the engine may take for one answer; starting a container has a deadline of its own.
const ANSWER_SECONDS: u64 = 120;

/// Connects to the engine at `place`: the path of a socket, or a URL as the engine's own client takes it. What the process's
/// environment says is the server's business.
pub(crate) async fn connect(place: Option<&str>) -> Result<Docker, Error> {
    let place = place.unwrap_or(USUAL_SOCKET);
    let engine = if place.starts_with("tcp://") || place.starts_with("http://") {
        Docker::connect_with_http(place, ANSWER_SECONDS, API_DEFAULT_VERSION)?
    } else {
        Docker::connect_with_unix(place.trim_start_matches("unix://"), ANSWER_SECONDS, API_DEFAULT_VERSION)?
    };
    engine.negotiate_version().await
}
