//! Previews: what listens in an environment, opened by a link.
//!
//! A page that an agent made is a stranger's page. It must not share an origin with the API, nor with another preview: so
//! previews have a listener of their own, and each has a host name of its own there, [`Site`]. The name is no secret, the
//! token in the link is. A browser changes the token for a cookie at once, so that it stands in no address bar and in no
//! `Referer`; tools send it with each request.
//!
//! A request is passed on as it is, through the container's daemon, to the one port that the preview is of.
//! Nothing is kept of it, and nothing of ours goes in: not the token, and no API key. Both ways are streams; what one side
//! does not read, the other cannot send. A preview that is revoked or expires ends within a second on every server, with
//! all that is open through it.

mod exchange;
mod headers;
mod knock;
mod live;
mod refusal;
mod service;
mod site;
mod watch;

pub use service::{Body, Options, Previews};
pub use site::{NoName, Site};
pub use watch::Answer;
