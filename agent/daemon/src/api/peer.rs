//! Who asks: whoever may read what the agent knows may not therefore change what it does.

use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use super::answer::Problem;

/// The user at the other end of a connection; `None` where the system does not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

/// That root asks, or the user that the agent runs as. Anybody else is refused.
pub(crate) struct Owner;

impl<S: Sync> FromRequestParts<S> for Owner {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let own = rustix::process::geteuid().as_raw();
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().and_then(|ConnectInfo(peer)| peer.uid);
        if peer.is_some_and(|uid| may(uid, own)) {
            return Ok(Self);
        }
        let asked = peer.map_or_else(|| "an unknown user".to_owned(), |uid| format!("user {uid}"));
        Err(Problem::new(StatusCode::FORBIDDEN, format!("{asked} may read what the agent knows, and not do this"))
            .hint(format!("ask as root or as user {own}, as which the agent runs")))
    }
}

fn may(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_agents_own_user_may_and_nobody_else() {
        assert_eq!([0, 1000, 1001, 65534].map(|uid| may(uid, 1000)), [true, true, false, false]);
    }
}
