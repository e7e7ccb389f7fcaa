//! Previews of what really listens in a real container without any network, opened as clients open them.

mod http;
mod letting_in;
mod limits;
mod websocket;
mod world;
